"""Random signs of units: which there are, and how many clearly different values a statistic has under them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 4096  # rows whose signs come from one random generator
TOGETHER = 256  # flips at most that do


def n_sums(noise: np.ndarray) -> float:
    """Return how many clearly different values a sum over many genes has, from what each unit adds to the noise, (U,).

    If few units have nearly all of the noise, only their signs matter: four such units have eight different sets of
    signs, however many other units there are. The data are more extreme than the flips with their own signs, as these
    are mixed with the signs of the others, so p-values below one over this number would be too small.
    """
    return n_distinct(float(noise.sum() ** 2 / np.sum(noise**2)))


def n_distinct(n_units: float) -> float:
    """Return the number of distinct flips: signs that are all turned give the same statistic."""
    return float(2 ** (n_units - 1)) if n_units < 1000 else float("inf")


def sign_blocks(U: int, n_flips: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks of signs, F x U: random ones, or every distinct one if there are no more than ``n_flips``."""
    if n_distinct(U) <= n_flips:
        every = np.arange(1, int(n_distinct(U)))  # all but the data themselves
        for start in range(0, len(every), size):
            bits = (every[start : start + size, None] >> np.arange(U)) & 1  # the last unit is never flipped
            yield 1.0 - 2.0 * bits
        return
    rng = np.random.default_rng(seed)
    for start in range(0, n_flips, size):
        yield rng.choice([-1.0, 1.0], (min(size, n_flips - start), U))


def signs_of_rows(seed: int, start: int, rows: slice, F: int) -> np.ndarray:
    """Return the signs of some rows under F flips, int8; they do not depend on how the rows are cut into blocks."""
    out = np.empty((rows.stop - rows.start, F), dtype=np.int8)
    for first in range(0, F, TOGETHER):
        n = min(TOGETHER, F - first)
        for chunk in range(rows.start // CHUNK, -(-rows.stop // CHUNK)):
            rng = np.random.default_rng([seed, start + first, 0, chunk])
            top, end = max(rows.start, chunk * CHUNK), min(rows.stop, (chunk + 1) * CHUNK)
            bits = rng.integers(0, 2, (CHUNK, n), dtype=np.int8)[top - chunk * CHUNK : end - chunk * CHUNK]
            out[top - rows.start : end - rows.start, first : first + n] = bits
    out *= -2
    out += 1
    return out
