"""Random images."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SIDE = 100  # pixels along one side of an image


def stimuli(
    n: int, *, kind: str = "smooth", side: int = SIDE, random_state: int | np.random.Generator | None = 0
) -> np.ndarray:
    """Draw random images with known statistics.

    Parameters
    ----------
    n
        Number of images.
    kind
        ``"white"``: independent pixels, uniform between -1 and 1. ``"smooth"``: white noise convolved with a Gaussian
        of standard deviation 3 pixels, which wraps at the edges; every image is divided by its largest absolute value.
        ``"natural"``: noise with an amplitude spectrum of 1 / frequency, divided likewise.
    side
        Pixels along one side.
    random_state
        Seed or generator.

    Returns
    -------
    ndarray of shape (n, side, side)
        Values between -1 and 1, in single precision.

    Raises
    ------
    ValueError
        If the kind is unknown.

    Examples
    --------
    >>> from flda.circuits import simulate
    >>> images = simulate.stimuli(2, kind="smooth")
    >>> images.shape, float(abs(images).max())
    ((2, 100, 100), 1.0)
    """
    rng = np.random.default_rng(random_state)
    images = rng.uniform(-1, 1, size=(n, side, side)).astype(np.float32)
    if kind == "white":
        return images
    if kind == "smooth":
        images = ndimage.gaussian_filter(images, (0, 3, 3), mode="wrap")
    elif kind == "natural":
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
        frequency[0, 0] = np.inf  # removes the mean, which would drive all filters together
        images = np.fft.irfft2(np.fft.rfft2(images) / frequency, s=(side, side)).astype(np.float32)
    else:
        raise ValueError(f"stimulus {kind!r} is unknown; choose 'smooth', 'white' or 'natural'.")
    return images / np.abs(images).max(axis=(1, 2), keepdims=True)
