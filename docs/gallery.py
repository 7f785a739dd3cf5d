"""Draw the figures of the README and of the documentation: ``python docs/gallery.py [FOLDER]``.

Runs the README's example and ``flda demo``, which takes a few minutes. With a folder, the demo is kept there and not
repeated. With ``--readme``, it draws only the figure of the README, with ``--circuits`` only the two circuits with the
same responses.
"""

import io
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
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


def two_circuits() -> None:
    """Draw a simulated retina and another circuit, with four inhibitory cells of opposite sign, that responds alike."""
    retina = flda.circuits.simulate.retina_circuit("2", n_kernels=3)
    X, responses = retina.sample(400, random_state=1)
    other, weights = retina.model, retina.truth
    for unit in np.flatnonzero(retina.truth["amacrine->ganglion"]):
        other, weights = flda.circuits.flip_unit(other, weights, "amacrine", unit)
    figure, axes = plt.subplots(1, 5, figsize=(11.5, 2.9), layout="constrained", width_ratios=[1, 1, 1, 1, 1.25])
    drawn = []
    for i, (name, w) in enumerate((("circuit 2", retina.truth), ("the other circuit", weights))):
        # kernel 0 excites the centre; kernel 1 reaches the ganglion cell through the amacrine units
        direct = w["bipolar->ganglion"].reshape(10, 10, 3).sum(axis=2)
        inputs = w["bipolar->amacrine"].sum(axis=1).reshape(10, 10, 3)[..., 1]
        for ax, image, what in zip(axes[i::2][:2], (direct, inputs), ("ganglion cell", "amacrine cells"), strict=True):
            drawn.append(ax.imshow(image, cmap="RdBu_r", vmin=-0.8, vmax=0.8))
            ax.set_title(f"{name}:\nbipolar to {what}", fontsize=9)
            ax.set(xticks=[], yticks=[])
    figure.colorbar(drawn[-1], ax=axes[3], shrink=0.7, label="weight")
    axes[4].plot(responses, other.predict(weights, X), ".", ms=3, color="black", alpha=0.5)
    axes[4].set_title("responses to 400 new images", fontsize=9)
    axes[4].set(xlabel="circuit 2", ylabel="the other circuit")
    save(figure, "two_circuits")


def results(folder: Path, name: str, *arguments: str) -> AnnData:
    """Return what ``flda`` writes with these arguments; read it if an earlier run left it in the folder."""
    if not (folder / name).exists() and cli.main([*arguments, "--out", str(folder / name)]):
        raise SystemExit(f"flda {' '.join(arguments)} failed")
    return read_h5ad(folder / name / "result.h5ad")


def main(folder: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    readme()
    two_circuits()
    simulated = results(folder, "demo", "demo")
    save(flda.pl.certificate(simulated), "t4t5_certificate")
    save(flda.pl.scores(simulated, "axon_1"), "t4t5_scores")
    save(flda.pl.genes(simulated, "axon_1"), "t4t5_genes")


if __name__ == "__main__":
    if sys.argv[1:] == ["--readme"]:
        readme()
    elif sys.argv[1:] == ["--circuits"]:
        two_circuits()
    elif len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
