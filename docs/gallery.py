"""Draw the figures of the README and of the documentation: ``python docs/gallery.py [FOLDER]``.

Runs the README's example and ``flda demo``, which takes a few minutes. With a folder, the demo is kept there and not
repeated. With ``--readme``, it draws only the figure of the README.
"""

import io
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from anndata import AnnData, read_h5ad
from PIL import Image

import flda
from flda import cli

FOLDER = Path(__file__).parent / "gallery"
DPI, COLORS = 100, 256


def save(drawn, name: str) -> None:
    """Write a figure, or the figure of axes, as a small PNG: few dots, few colours."""
    buffer = io.BytesIO()
    drawn.figure.savefig(buffer, dpi=DPI)
    plt.close(drawn.figure)
    image = Image.open(buffer).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    image.save(FOLDER / f"{name}.png", optimize=True)
    print(f"{name}.png  {image.width} x {image.height}  {(FOLDER / f'{name}.png').stat().st_size / 1000:.0f} kB")


def readme() -> None:
    """Draw the README's figure, from the README's example."""
    adata = flda.datasets.t4t5_simulated(n_obs=1500, n_vars=500)
    flda.tl.flda(adata, ["dendrite", "axon"])
    flda.tl.certify(adata)
    flda.tl.held_out_scores(adata)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    flda.pl.scores(adata, "dendrite_1", "axon_1", color="axon", ax=left)
    scores = adata.obsm["X_flda_held_out"]
    for dendrite in ("T4", "T5"):
        center = scores[(adata.obs["dendrite"] == dendrite).to_numpy(), 0].mean()
        left.text(center, 1.0, dendrite, transform=left.get_xaxis_transform(), ha="center", va="top", weight="bold")
    left.set_title("cells, on axes fitted without them", fontsize=10, pad=8)
    flda.pl.certificate(adata, ax=right)
    save(figure, "readme")


def results(folder: Path, name: str, *arguments: str) -> AnnData:
    """Return what ``flda`` writes with these arguments; read it if an earlier run left it in the folder."""
    if not (folder / name).exists() and cli.main([*arguments, "--out", str(folder / name)]):
        raise SystemExit(f"flda {' '.join(arguments)} failed")
    return read_h5ad(folder / name / "result.h5ad")


def main(folder: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    readme()
    simulated = results(folder, "demo", "demo")
    save(flda.pl.certificate(simulated), "t4t5_certificate")
    save(flda.pl.scores(simulated, "axon_1"), "t4t5_scores")
    save(flda.pl.genes(simulated, "axon_1"), "t4t5_genes")


if __name__ == "__main__":
    if sys.argv[1:] == ["--readme"]:
        readme()
    elif len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
