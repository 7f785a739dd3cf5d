"""Quantiles of gamma variables with mean one, by interpolation: what turns Gaussian scores into rates."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.special import gammaincinv, ndtr

# of log2 dispersion and of Gaussian scores; between them cube roots are nearly linear (Wilson and Hilferty 1931)
LOG_PHI = np.linspace(-14, 6, 161)
SCORES = np.linspace(-6, 6, 193)


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """Cube roots of the quantiles, dispersions x scores."""
    phi = 2.0 ** LOG_PHI[:, None]
    return np.cbrt(phi * gammaincinv(1 / phi, ndtr(SCORES)))


def gamma_rates(z: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """``F^-1(Phi(z))`` for F the gamma distribution with mean 1 and variance phi; 1 where phi is 0.

    Relative errors of mean and variance are below 1 % for dispersions from 1e-4 to 60, larger ones are taken for 64.

    Parameters
    ----------
    z
        Gaussian scores, n x p.
    phi
        Dispersions, broadcast against z.

    Examples
    --------
    >>> import numpy as np
    >>> rates = gamma_rates(np.random.default_rng(0).normal(size=(100_000, 1)), np.array([0.5]))
    >>> round(float(rates.mean()), 2), round(float(rates.var()), 1)
    (1.0, 0.5)
    """
    phi = np.broadcast_to(phi, z.shape)
    with np.errstate(divide="ignore"):
        row = (np.log2(phi) - LOG_PHI[0]) / (LOG_PHI[1] - LOG_PHI[0])
    column = (z - SCORES[0]) / (SCORES[1] - SCORES[0])
    places = np.stack([np.clip(row, 0, len(LOG_PHI) - 1), np.clip(column, 0, len(SCORES) - 1)])
    rates = map_coordinates(_table(), places, order=1) ** 3
    return np.where(phi > 0, rates, 1.0)


def gaussian_part(phi: np.ndarray) -> np.ndarray:
    """Correlation of such a variable with its Gaussian score, (p,): rates of two genes correlate by so much less."""
    density = np.exp(-(SCORES**2) / 2)
    density /= density.sum()
    rates = gamma_rates(np.broadcast_to(SCORES, (len(phi), len(SCORES))), np.asarray(phi)[:, None])
    centred = rates - (rates @ density)[:, None]
    sd = np.sqrt(centred**2 @ density)
    return np.where(sd > 0, centred @ (density * SCORES) / np.where(sd > 0, sd, 1.0), 1.0)
