"""The statistics of :mod:`flda._error.flips` for the logarithm of mean counts, on which factors that multiply add up.

The rate of a gene in a cell is its count over the size factor s_i of the cell. On the log of the mean rates of groups,
main effects that multiply the expression of a gene leave no interaction, however few the counts are; on the mean of
``log1p`` they do, because log1p is not a logarithm near zero. Each mean gets a share of half a count, which makes the
log finite and nearly unbiased (Haldane 1956). Noise is that of the linearised logarithm, ``(x - m) / m``, and at least
that of Poisson counts, so that a group without any count does not look certain.
"""

from __future__ import annotations

import numpy as np

from .._design.design import Design
from .._design.effects import Effect
from .._design.samples import Samples
from .flips import CellFlips, DonorFlips
from .units import donor_units


def smoothed(means: np.ndarray, counts: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Add the rate of half a count in the largest sample to all means, so that samples of any size stay comparable.

    Parameters
    ----------
    means
        Mean rates, S x p.
    counts, inverse
        Number of cells, and mean of 1 / s_i, of every sample, (S,).
    """
    return means + 0.5 * np.min(inverse / counts)


class LogRateFlips(CellFlips):
    """Statistics of effects on log mean rates, with cells as units.

    Parameters
    ----------
    rates
        Counts over size factors, N x p.
    design, effects
        The groups and effects.
    means, squares
        Mean rate, and sum of squared rates, of every group and gene, C x p.
    inverse
        Mean of 1 / s_i in every group, (C,).
    seed
        Seed of the signs.
    """

    pooled = 0.0  # on this scale the Poisson noise below keeps a group without counts from looking certain

    def __init__(
        self, rates, design: Design, effects: list[Effect], means: np.ndarray, squares: np.ndarray,
        inverse: np.ndarray, seed: int,
    ):  # fmt: skip
        n = design.counts[:, None]
        self._rate = smoothed(means, design.counts, inverse)
        logs = np.log(self._rate)
        self._shift = logs - means / self._rate  # z = shift + x / rate has the mean log(rate)
        about = np.maximum(squares - n * means**2, 0) / self._rate**2
        super().__init__(rates, design, effects, logs, about + n * logs**2, seed)
        self._floor = inverse[:, None] / self._rate

    def _expression_and_signs(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rates, signs = super()._expression_and_signs(sums)
        return rates / self._rate + signs * self._shift, signs


def log_rate_flips_of_donors(
    effect: Effect, design: Design, donors: np.ndarray, means: np.ndarray, samples: Samples, inverse: np.ndarray,
    seed: int,
) -> DonorFlips:  # fmt: skip
    """Return the statistics of an effect on log mean rates, with donors as units.

    Parameters
    ----------
    effect, design, donors
        As in :func:`flda._error.units.donor_units`.
    means, samples, inverse
        Mean rates of the samples, S x p, the samples, and the mean of 1 / s_i in each, (S,).
    seed
        Seed of the signs.
    """
    rate = smoothed(means, samples.counts, inverse)
    flips = DonorFlips(effect, donor_units(effect, design, donors, np.log(rate), samples), seed)
    # contrasts of the unit matrix are the coefficients of every sample
    units = donor_units(effect, design, donors, np.eye(len(rate)), samples)
    noise = (inverse / samples.counts)[:, None] / rate
    of_units = np.mean(units.values**2, axis=1) @ noise
    flips.at_least(of_units)
    return flips
