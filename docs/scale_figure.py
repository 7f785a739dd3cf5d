"""Draw the scale of SNR and cross-talk of docs/questions.md: ``python docs/scale_figure.py``.

Densities of the scores of a factor with two levels (colours) and another factor with two levels (solid, dashed), in
units of the standard deviation within groups. With two levels, a difference of d between their means is an SNR of
``d^2 / 2``; the script checks that with :func:`flda.inference.certify`.
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm

from flda import FLDA
from flda.inference import certify

OUT = Path(__file__).parent / "gallery" / "snr_scale.png"
SNR, CROSSTALK = (0.5, 2, 8, 18), (0, 0.5, 2, 8)
COLORS = ("#0173b2", "#de8f05")


def difference(snr: float) -> float:
    """Return the difference of two means, in standard deviations, that has this SNR."""
    return float(np.sqrt(2 * snr))


def overlap(snr: float) -> float:
    """Return the share of cells on the right side of the midpoint."""
    return float(norm.cdf(difference(snr) / 2))


def wrong(snr: float, crosstalk: float) -> float:
    """Return the share of cells on the wrong side of the midpoint, with a second factor of two levels."""
    half, shift = difference(snr) / 2, difference(crosstalk) / 2
    return float(norm.sf([half - shift, half + shift]).mean())


def check() -> None:
    """The certificate of many cells gives these numbers, and the text repeats the shares."""
    shares = [wrong(8, 8 * part) for part in (0, 0.1, 0.25, 0.5, 1)]
    np.testing.assert_allclose(shares, [0.02, 0.04, 0.08, 0.14, 0.25], atol=0.006)
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"own": np.repeat(["p", "q"], 4000), "other": np.tile(["u", "v"], 4000)})
    x = rng.normal(size=8000) + difference(8) * (y["own"] == "q") + difference(0.5) * (y["other"] == "v")
    row = certify(FLDA(shrinkage=0.0), x.to_numpy()[:, None], y).iloc[0]
    np.testing.assert_allclose([row["snr"], row["crosstalk"]], [8, 0.5], rtol=0.1)


def draw() -> None:
    x = np.linspace(-6, 9, 400)
    figure, axes = plt.subplots(2, 4, figsize=(10, 4.2), sharex=True, sharey=True, layout="constrained")
    for ax, snr in zip(axes[0], SNR, strict=True):
        for mean, color in zip((0, difference(snr)), COLORS, strict=True):
            ax.fill_between(x, norm.pdf(x, mean), color=color, alpha=0.55, linewidth=0)
        ax.set_title(f"SNR {snr:g}: {100 * overlap(snr):.3g} % on the right side", fontsize=9)
    for ax, crosstalk in zip(axes[1], CROSSTALK, strict=True):
        for mean, color in zip((0, difference(8)), COLORS, strict=True):
            for side, style in ((-0.5, "-"), (0.5, "--")):
                shift = side * difference(crosstalk)
                ax.plot(x, norm.pdf(x, mean + shift), style, color=color, linewidth=1.3)
        ax.set_title(f"SNR 8, cross-talk {crosstalk:g}", fontsize=9)
    for ax in axes.ravel():
        ax.set_yticks([])
        ax.spines[["left", "top", "right"]].set_visible(False)
    for ax in axes[1]:
        ax.set_xlabel("score (sd within groups)", fontsize=8)
    figure.savefig(OUT, dpi=90)


if __name__ == "__main__":
    check()
    draw()
