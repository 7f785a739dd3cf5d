"""Circuits with known weights, and stimuli with stated statistics.

The circuits are the simulated retinas of Bagherian, Gornet, Bernstein, Ni, Yue and Meister, Fine-grained system
identification of nonlinear neural circuits, KDD 2021, after the authors' public code (CC0). The stimuli of that
paper are not public; ours are described at :func:`stimuli`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .models import CircuitModel, Connection, FilterBank, Population

SIDE, GRID, POOLED = 100, 10, 5  # pixels, bipolar positions and amacrine units along one side of the image

# centre width, surround width, centre weight, surround weight of the difference-of-Gaussians kernels
_KERNELS_1 = [
    (3, 6, 13, 12.9), (5, 6, 18, 18), (2, 4, 20, 14), (2, 8, 20, 13), (3, 8, 20, 20), (3, 6, 20, 15), (5, 8, 19, 20),
    (3, 8, 22, 15), (2, 8, 15, 18), (5, 8, 13, 20), (2, 8, 15, 15), (3, 8, 20, 22), (5, 8, 20, 18), (2, 8, 13, 18),
]  # fmt: skip
_BIASES_1 = {0: -2, 1: -3, 14: -2, 17: -3}
_KERNELS_2 = [
    (3, 6, 13, 12.9), (5, 6, 18, 18), (2, 4, 20, 14), (3, 6, 13, 0), (4, 6, 13, 0), (2, 4, 20, 0), (3, 6, 13, 20),
    (5, 6, 18, 20), (2, 4, 20, 24), (5, 8, 13, 20), (2, 8, 15, 15), (3, 8, 20, 12), (5, 8, 20, 18), (2, 8, 13, 18),
]  # fmt: skip
_BIASES_2 = {0: -2, 1: -3, 3: -15, 4: -2, 5: -3, 7: -15, 8: -25, 9: -10, 12: -25, 13: -10}


@dataclass(frozen=True)
class RetinaCircuit:
    """A simulated retina: bipolar filters, amacrine units, one ganglion cell, and the weights behind them.

    Attributes
    ----------
    name
        "1", "2", "3A" or "3B".
    filters
        The fixed first layer, bipolar cells at 10 x 10 positions.
    model
        The circuit behind it, with the true signs.
    truth
        True weights by connection.
    """

    name: str
    filters: FilterBank
    model: CircuitModel
    truth: dict[str, np.ndarray]

    def sample(
        self, n: int, *, stimulus: str = "smooth", noise: float = 0.0, random_state: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bipolar responses ``(n, 100 * n_kernels)`` to random images, and responses ``(n,)`` of the ganglion cell.

        Parameters
        ----------
        n
            Number of images.
        stimulus
            As in :func:`stimuli`.
        noise
            Standard deviation of Gaussian noise on the response, in units of the response's own.
        random_state
            Seed.

        Examples
        --------
        >>> X, y = retina_circuit("2", n_kernels=3).sample(20, random_state=0)
        >>> X.shape, y.shape
        ((20, 300), (20,))
        """
        rng = np.random.default_rng(random_state)
        X = np.concatenate(
            [
                self.filters.transform(stimuli(min(1000, n - start), kind=stimulus, random_state=rng))
                for start in range(0, n, 1000)
            ]
        )
        y = self.model.predict(self.truth, X)
        return X, y + noise * y.std() * rng.normal(size=len(y))


def stimuli(
    n: int, *, kind: str = "smooth", side: int = SIDE, random_state: int | np.random.Generator | None = None
) -> np.ndarray:
    """Random images ``(n, side, side)`` with values in [-1, 1].

    Parameters
    ----------
    n
        Number of images.
    kind
        "white": independent pixels, uniform on (-1, 1). "smooth": the same noise convolved with a Gaussian of
        standard deviation 3 pixels (wrapped at the edges), every image divided by its largest absolute value.
        "natural": noise with a 1/f amplitude spectrum, scaled likewise.
    side
        Pixels along one side.
    random_state
        Seed or generator.

    Examples
    --------
    >>> images = stimuli(2, kind="smooth", random_state=0)
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
        frequency[0, 0] = np.inf  # no mean: an overall brightness would drive all filters together
        images = np.fft.irfft2(np.fft.rfft2(images) / frequency, s=(side, side)).astype(np.float32)
    else:
        raise ValueError(f"stimulus {kind!r} is not known; choose 'smooth', 'white' or 'natural'.")
    return images / np.abs(images).max(axis=(1, 2), keepdims=True)


def retina_circuit(name: str, *, n_kernels: int = 3, random_state: int | None = 0) -> RetinaCircuit:
    """Circuit 1, 2, 3A or 3B of the KDD 2021 paper, with a dictionary of ``n_kernels`` bipolar kernels.

    ======= ==================================================== ==========================================
    circuit ganglion cell                                        inhibition
    ======= ==================================================== ==========================================
    1       ReLU(sum of amacrine units - 10), no direct input    none: amacrine units excite
    2       direct input - amacrine units, linear                through amacrine units
    3A      ReLU(circuit 2 + 8): hardly rectified                through amacrine units
    3B      ReLU(circuit 2): strongly rectified                  through amacrine units
    ======= ==================================================== ==========================================

    An amacrine unit sees a 2 x 2 block of positions and responds with ReLU(3 x drive - 5). The first three kernels
    are those of the truth (in circuit 2 and 3 the first two); the others are distractors.

    Parameters
    ----------
    name
        "1", "2", "3A" or "3B".
    n_kernels
        Dictionary size: 3, 14 or 28 for circuit 1; 3, 8, 16 or 28 for the others are those of the paper; any
        number from 3 to 28 takes the first ones.
    random_state
        Seed of the random weights of circuit 1; the others have fixed ones.

    Examples
    --------
    >>> circuit = retina_circuit("2", n_kernels=8)
    >>> circuit.model.n_parameters, int((circuit.truth["bipolar->amacrine"] > 0).sum())
    (1625, 16)
    """
    if name not in ("1", "2", "3A", "3B"):
        raise ValueError(f"circuit {name!r} is not known; choose '1', '2', '3A' or '3B'.")
    if not 3 <= n_kernels <= 28:
        raise ValueError(f"n_kernels={n_kernels} must lie between 3 and 28.")
    filters = _filters(name, n_kernels)
    n_bipolar, n_amacrine = GRID * GRID * n_kernels, POOLED * POOLED
    row, col, _ = np.unravel_index(np.arange(n_bipolar), (GRID, GRID, n_kernels))
    feeds = np.zeros((n_bipolar, n_amacrine))
    feeds[np.arange(n_bipolar), (row // 2) * POOLED + col // 2] = 1.0
    first = name == "1"
    threshold = {"1": 10.0, "2": 0.0, "3A": -8.0, "3B": 0.0}[name]
    connections = [
        Connection("bipolar", "amacrine", feeds),
        Connection("amacrine", "ganglion", np.full((n_amacrine, 1), 1.0 if first else -1.0), penalty=float(first)),
    ]
    if not first:
        connections.append(Connection("bipolar", "ganglion", np.ones((n_bipolar, 1))))
    model = CircuitModel(
        [
            Population("bipolar", n_bipolar),
            Population("amacrine", n_amacrine, gain=3.0, threshold=5.0),
            Population("ganglion", 1, threshold=threshold, rectify=name != "2"),
        ],
        connections,
    )
    truth = _truth_1(feeds, n_kernels, random_state) if first else _truth_2(feeds, n_kernels)
    return RetinaCircuit(name, filters, model, truth)


def _filters(name: str, n_kernels: int) -> FilterBank:
    if name == "1":  # all kernels, then their negatives
        shapes = [*_KERNELS_1, *_KERNELS_1]
        polarity = [1] * 14 + [-1] * 14
        biases = _BIASES_1
    else:  # four kernels, their negatives, the next four ...
        blocks = [_KERNELS_2[i : i + 4] for i in range(0, 14, 4)]
        shapes = [k for block in blocks for _ in range(2) for k in block]
        polarity = [sign for block in blocks for sign in (1, -1) for _ in block]
        biases = _BIASES_2
    x = np.arange(-5, 6)
    r2 = x[:, None] ** 2 + x[None, :] ** 2
    kernels = []
    for sign, (sc, ss, c, s) in zip(polarity[:n_kernels], shapes[:n_kernels], strict=True):
        kernel = c * 0.4 / sc * np.exp(-r2 / (2 * sc**2)) - s * 0.4 / ss * np.exp(-r2 / (2 * ss**2))
        kernels.append(sign * kernel / np.abs(kernel).max())
    return FilterBank(np.stack(kernels), np.array([biases.get(k, -1) for k in range(n_kernels)], float), stride=10)


def _truth_1(feeds: np.ndarray, n_kernels: int, random_state: int | None) -> dict[str, np.ndarray]:
    """Random: the rows x columns of six entries of position x (true) kernel, weights in (1, 2)."""
    rng = np.random.default_rng(random_state)
    positions = np.unique(rng.choice(GRID * GRID, size=6, replace=False))
    kernels = np.unique(rng.integers(3, size=6))
    chosen = (positions[:, None] * n_kernels + kernels).ravel()
    inputs = np.zeros_like(feeds)
    inputs[chosen] = feeds[chosen] * rng.uniform(1, 2, size=(len(chosen), 1))
    fed = (inputs > 0).any(axis=0)  # an amacrine unit without input is silent: its output is no part of the circuit
    return {
        "bipolar->amacrine": inputs,
        "amacrine->ganglion": np.where(fed, rng.uniform(0.5, 1, size=feeds.shape[1]), 0.0)[:, None],
    }


def _truth_2(feeds: np.ndarray, n_kernels: int) -> dict[str, np.ndarray]:
    n_bipolar = len(feeds)
    row, col, kernel = np.unravel_index(np.arange(n_bipolar), (GRID, GRID, n_kernels))
    centre = np.isin(row, (3, 4)) & np.isin(col, (3, 4)) & (kernel == 0)
    surround = (row >= 2) & (row <= 5) & (col >= 2) & (col <= 5) & (kernel == 1)
    inputs = 0.2 * feeds * surround[:, None]
    return {
        "bipolar->amacrine": inputs,
        "amacrine->ganglion": -0.4 * inputs.any(axis=0)[:, None],
        "bipolar->ganglion": 0.8 * centre[:, None],
    }
