"""Draw the figures of the README: ``python docs/gallery.py [FOLDER]``.

Runs ``flda demo`` and ``flda run`` on the RNA mixtures, which are fetched if needed, and takes a few minutes.
With a folder the runs are kept there, and not repeated.
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
from flda.cli import _commands as cli

FOLDER = Path(__file__).parent / "gallery"
DPI, COLORS = 100, 256


def save(ax, name: str) -> None:
    """A small PNG: few dots, few colours."""
    buffer = io.BytesIO()
    ax.figure.savefig(buffer, dpi=DPI)
    plt.close(ax.figure)
    image = Image.open(buffer).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    image.save(FOLDER / f"{name}.png", optimize=True)
    print(f"{name}.png  {image.width} x {image.height}  {(FOLDER / f'{name}.png').stat().st_size / 1000:.0f} kB")


def results(folder: Path, name: str, *arguments: str) -> AnnData:
    """What ``flda`` writes with these arguments; read, if an earlier gallery left it in the folder."""
    if not (folder / name).exists() and cli.main([*arguments, "--out", str(folder / name)]):
        raise SystemExit(f"flda {' '.join(arguments)} failed")
    return read_h5ad(folder / name / "result.h5ad")


def main(folder: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    simulated = results(folder, "demo", "demo")
    save(flda.pl.certificate(simulated), "t4t5_certificate")
    save(flda.pl.scores(simulated, "axon_1"), "t4t5_scores")
    save(flda.pl.genes(simulated, "axon_1"), "t4t5_genes")

    if not (folder / "rnamix").exists():
        flda.datasets.rnamix().write_h5ad(folder / "rnamix.h5ad")
    factors = ["--factors", "mixture", "amount", "protocol", "--interactions", "none"]
    mixtures = results(folder, "rnamix", "run", str(folder / "rnamix.h5ad"), *factors)
    save(flda.pl.design(mixtures), "rnamix_design")
    save(flda.pl.scores(mixtures, "mixture_1", "mixture_2"), "rnamix_scores")
    save(flda.pl.scores(mixtures, "amount_1"), "rnamix_amount")
    save(flda.pl.genes(mixtures, "mixture_1"), "rnamix_genes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
