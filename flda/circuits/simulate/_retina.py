"""Simulated retinas: bipolar filters, amacrine units and one ganglion cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._filters import FilterBank
from .._models import CircuitModel, Connection, Population
from ._stimuli import stimuli

GRID, POOLED = 10, 5  # bipolar positions and amacrine units along one side of the image

# kernels as (centre width, surround width, centre weight, surround weight) of a difference of Gaussians, and the
# biases that differ from -1, both from the authors' public code
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
    """A simulated retina with known weights.

    Attributes
    ----------
    name : str
        ``"1"``, ``"2"``, ``"3A"`` or ``"3B"``.
    filters : FilterBank
        The fixed first layer: bipolar cells at 10 x 10 positions.
    model : CircuitModel
        The circuit behind the filters, with the true signs.
    truth : dict
        True weights by connection.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021).

    Examples
    --------
    >>> from flda.circuits import simulate
    >>> retina = simulate.retina_circuit("1")
    >>> sorted(retina.truth)
    ['amacrine->ganglion', 'bipolar->amacrine']
    """

    name: str
    filters: FilterBank
    model: CircuitModel
    truth: dict[str, np.ndarray]

    def sample(
        self, n: int, *, stimulus: str = "smooth", noise: float = 0.0, random_state: int | None = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw random images and compute the responses of the bipolar cells and of the ganglion cell.

        Parameters
        ----------
        n
            Number of images.
        stimulus
            Kind of the images, as in :func:`stimuli`.
        noise
            Standard deviation of Gaussian noise on the response of the ganglion cell, divided by the standard deviation
            of that response.
        random_state
            Seed of images and noise.

        Returns
        -------
        X : ndarray of shape (n, 100 * n_kernels)
            Responses of the bipolar cells, the inputs of the circuit.
        y : ndarray of shape (n,)
            Responses of the ganglion cell.

        Examples
        --------
        >>> from flda.circuits import simulate
        >>> X, y = simulate.retina_circuit("2", n_kernels=3).sample(20)
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


def retina_circuit(name: str, *, n_kernels: int = 3, random_state: int | None = 0) -> RetinaCircuit:
    """Build circuit 1, 2, 3A or 3B of the KDD 2021 paper.

    ======= ==================================================== ==========================================
    circuit ganglion cell                                        inhibition
    ======= ==================================================== ==========================================
    1       relu(sum of amacrine units - 10), no direct input    none: amacrine units excite
    2       direct input - amacrine units, linear                through amacrine units
    3A      relu(circuit 2 + 8), hardly rectified                through amacrine units
    3B      relu(circuit 2), strongly rectified                  through amacrine units
    ======= ==================================================== ==========================================

    An amacrine unit receives input from a block of 2 x 2 positions and responds with relu(3 x drive - 5). The true
    weights use only the first three kernels (in circuits 2 and 3 only the first two); the other kernels are
    distractors.

    Parameters
    ----------
    name
        ``"1"``, ``"2"``, ``"3A"`` or ``"3B"``.
    n_kernels
        Number of bipolar kernels, 3 to 28. The paper uses 3, 14 and 28 for circuit 1, and 3, 8, 16 and 28 for the
        others.
    random_state
        Seed of the weights of circuit 1, which are random; those of the other circuits are fixed.

    Returns
    -------
    RetinaCircuit
        Filters, model and true weights.

    Raises
    ------
    ValueError
        If the name is unknown, or if ``n_kernels`` is not between 3 and 28.

    References
    ----------
    Bagherian D et al. Fine-grained system identification of nonlinear neural circuits. KDD (2021), and the authors'
    public code (CC0).

    Examples
    --------
    >>> from flda.circuits import simulate
    >>> circuit = simulate.retina_circuit("2", n_kernels=8)
    >>> circuit.model.n_parameters, int((circuit.truth["bipolar->amacrine"] > 0).sum())
    (1625, 16)
    """
    if name not in ("1", "2", "3A", "3B"):
        raise ValueError(f"circuit {name!r} is unknown; choose '1', '2', '3A' or '3B'.")
    if not 3 <= n_kernels <= 28:
        raise ValueError(f"n_kernels={n_kernels} must lie between 3 and 28.")
    filters = _filters(name, n_kernels)
    n_bipolar, n_amacrine = GRID * GRID * n_kernels, POOLED * POOLED
    row, col, _ = np.unravel_index(np.arange(n_bipolar), (GRID, GRID, n_kernels))
    feeds = np.zeros((n_bipolar, n_amacrine))  # which bipolar cells lie in the 2 x 2 block of which amacrine unit
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
    """The first ``n_kernels`` kernels of the dictionary; kernels come with their negatives (OFF cells)."""
    if name == "1":  # all 14 kernels, then their negatives
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
        # both Gaussians have weight 0.4 / width, and a kernel's largest absolute value is one
        kernel = c * 0.4 / sc * np.exp(-r2 / (2 * sc**2)) - s * 0.4 / ss * np.exp(-r2 / (2 * ss**2))
        kernels.append(sign * kernel / np.abs(kernel).max())
    return FilterBank(np.stack(kernels), np.array([biases.get(k, -1) for k in range(n_kernels)], float), stride=10)


def _truth_1(feeds: np.ndarray, n_kernels: int, random_state: int | None) -> dict[str, np.ndarray]:
    """True weights of circuit 1: six random positions and kernels, all their combinations, with weights in (1, 2)."""
    rng = np.random.default_rng(random_state)
    positions = np.unique(rng.choice(GRID * GRID, size=6, replace=False))
    kernels = np.unique(rng.integers(3, size=6))
    chosen = (positions[:, None] * n_kernels + kernels).ravel()
    inputs = np.zeros_like(feeds)
    inputs[chosen] = feeds[chosen] * rng.uniform(1, 2, size=(len(chosen), 1))
    # an amacrine unit without inputs is silent, so its output weight is not part of the circuit
    fed = (inputs > 0).any(axis=0)
    return {
        "bipolar->amacrine": inputs,
        "amacrine->ganglion": np.where(fed, rng.uniform(0.5, 1, size=feeds.shape[1]), 0.0)[:, None],
    }


def _truth_2(feeds: np.ndarray, n_kernels: int) -> dict[str, np.ndarray]:
    """True weights of circuits 2 and 3: kernel 0 excites from the centre, kernel 1 inhibits from the surround."""
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
