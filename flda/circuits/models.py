"""Layered circuits: fixed filters in front, populations of rectifying units behind, known signs on the synapses.

Everything here is plain arithmetic on arrays, so that the same code runs on NumPy (simulation, diagnosis) and inside
the jitted fit of :mod:`flda.circuits.recover`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .signs import check_signs

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Population:
    """Units of one kind, with the response ``f(gain * drive - threshold)``.

    Parameters
    ----------
    name
        Name, unique in a circuit.
    size
        Number of units.
    gain, threshold
        Known constants, one for all units or one per unit. A known threshold other than zero fixes the scale of
        the incoming weights, which a rectifying unit otherwise leaves open.
    rectify
        Whether f is the positive part (True) or the identity (False).

    Examples
    --------
    >>> Population("amacrine", 25, gain=3.0, threshold=5.0).size
    25
    """

    name: str
    size: int
    gain: float | np.ndarray = 1.0
    threshold: float | np.ndarray = 0.0
    rectify: bool = True

    def respond(self, drive: Any, xp: Any = np) -> Any:
        """Activity at a drive ``(n_samples, size)``; ``xp`` is numpy or jax.numpy."""
        return xp.maximum(drive - self.threshold, 0.0) if self.rectify else drive - self.threshold


@dataclass(frozen=True)
class Connection:
    """Synapses from one population onto a later one.

    Parameters
    ----------
    source, target
        Names of the populations.
    signs
        ``(n_source, n_target)``: +1, -1, 0 where there is no synapse, NaN where the sign is not known.
    sharing
        ``(n_source, n_target)`` integers, or None. Synapses with equal labels share one weight (cell types);
        labels of absent synapses are ignored.
    penalty
        Weight of these synapses in the L1 penalty; 0 leaves them out of it.

    Examples
    --------
    >>> Connection("bipolar", "ganglion", np.array([[1.0], [-1.0]])).name
    'bipolar->ganglion'
    """

    source: str
    target: str
    signs: np.ndarray
    sharing: np.ndarray | None = None
    penalty: float = 1.0

    @property
    def name(self) -> str:
        """``"source->target"``, the key of this connection's weights."""
        return f"{self.source}->{self.target}"


@dataclass(frozen=True)
class _Synapses:
    """Where a connection's weights lie: dense entry ``rows, cols`` holds parameter ``ids``."""

    name: str
    shape: tuple[int, int]
    rows: np.ndarray
    cols: np.ndarray
    ids: np.ndarray


class CircuitModel:
    """A feed-forward circuit of populations; the first holds the inputs, the last one is the output.

    A unit's drive is the sum over its connections of source activity times weight, and its activity
    ``relu(gain * drive - threshold)``. Inputs are taken as given: responses of fixed, known filters are computed
    once, before any fit (see :class:`FilterBank`).

    Parameters
    ----------
    populations
        In the order in which activity flows.
    connections
        Each from an earlier population onto a later one.

    Attributes
    ----------
    n_parameters
        Number of free weights, shared ones counted once.
    signs
        ``(n_parameters,)``: +1, -1 or NaN (free) for every free weight.
    penalties
        ``(n_parameters,)``: relative weight of every free weight in the L1 penalty.

    Raises
    ------
    ValueError
        For masks of the wrong shape, values other than +1, -1, 0 and NaN, connections that run backwards, and
        shared weights whose synapses have contradicting signs.

    Examples
    --------
    >>> model = CircuitModel(
    ...     [Population("input", 3), Population("hidden", 1, threshold=1.0), Population("output", 1, rectify=False)],
    ...     [Connection("input", "hidden", np.ones((3, 1))), Connection("hidden", "output", -np.ones((1, 1)))],
    ... )
    >>> weights = {"input->hidden": np.array([[1.0], [0.0], [2.0]]), "hidden->output": np.array([[-0.5]])}
    >>> model.predict(weights, np.eye(3)).tolist()
    [0.0, 0.0, -0.5]
    """

    def __init__(self, populations: Sequence[Population], connections: Sequence[Connection]) -> None:
        self.populations = tuple(populations)
        self.connections = tuple(connections)
        order = {p.name: i for i, p in enumerate(self.populations)}
        if len(self.populations) < 2 or len(order) < len(self.populations):
            raise ValueError("a circuit needs at least two populations, with names of their own.")
        self.synapses: list[_Synapses] = []
        signs, penalties = [], []
        start = 0
        for c in self.connections:
            for end in (c.source, c.target):
                if end not in order:
                    raise ValueError(f"connection {c.name!r} names no population {end!r}; there are {list(order)}.")
            if order[c.source] >= order[c.target]:
                raise ValueError(
                    f"connection {c.name!r} runs backwards; order the populations by the flow of activity."
                )
            shape = (self.populations[order[c.source]].size, self.populations[order[c.target]].size)
            mask = check_signs(c.signs, shape, what=f"signs of connection {c.name!r}")
            rows, cols = np.nonzero(mask != 0)  # NaN is not 0: a synapse of unknown sign
            edge_signs = mask[rows, cols]
            if c.sharing is None:
                ids, first = np.arange(len(rows)), np.arange(len(rows))
            else:
                if np.shape(c.sharing) != shape:
                    raise ValueError(f"sharing of connection {c.name!r} has shape {np.shape(c.sharing)}, not {shape}.")
                _, first, ids = np.unique(np.asarray(c.sharing)[rows, cols], return_index=True, return_inverse=True)
            own = edge_signs[first]
            clash = ~((edge_signs == own[ids]) | (np.isnan(edge_signs) & np.isnan(own[ids])))
            if clash.any():
                at = np.flatnonzero(clash)[0]
                raise ValueError(
                    f"connection {c.name!r}: synapse ({rows[at]}, {cols[at]}) has sign {edge_signs[at]:g} but shares "
                    f"its weight with one of sign {own[ids[at]]:g}; give them different sharing labels."
                )
            self.synapses.append(_Synapses(c.name, shape, rows, cols, start + ids))
            signs.append(own)
            penalties.append(np.full(len(own), float(c.penalty)))
            start += len(own)
        for p in self.populations[1:]:
            if p.name not in {c.target for c in self.connections}:
                raise ValueError(f"no connection reaches population {p.name!r}; leave it out.")
        self.n_parameters = start
        self.signs = np.concatenate(signs)
        self.penalties = np.concatenate(penalties)

    def unsigned(self) -> CircuitModel:
        """The same circuit with every sign unknown."""
        return self.with_signs(np.full(self.n_parameters, np.nan))

    def with_signs(self, signs: np.ndarray) -> CircuitModel:
        """The same circuit with other signs, ``(n_parameters,)`` of +1, -1 and NaN."""
        connections = []
        for c, s in zip(self.connections, self.synapses, strict=True):
            mask = np.zeros(s.shape)
            mask[s.rows, s.cols] = np.asarray(signs)[s.ids]
            connections.append(replace(c, signs=mask))
        return CircuitModel(self.populations, connections)

    def with_thresholds(self, thresholds: Mapping[str, float | np.ndarray]) -> CircuitModel:
        """The same circuit with other thresholds, given by population."""
        return CircuitModel(
            [replace(p, threshold=thresholds.get(p.name, p.threshold)) for p in self.populations], self.connections
        )

    def weights(self, parameters: np.ndarray) -> dict[str, np.ndarray]:
        """Dense weight matrices ``(n_source, n_target)`` by connection, from the free weights."""
        found = {}
        for s in self.synapses:
            found[s.name] = np.zeros(s.shape)
            found[s.name][s.rows, s.cols] = np.asarray(parameters)[s.ids]
        return found

    def parameters(self, weights: Weights) -> np.ndarray:
        """Free weights ``(n_parameters,)`` from dense matrices, of which absent synapses are ignored."""
        found = np.zeros(self.n_parameters)
        for s in self.synapses:
            if np.shape(weights[s.name]) != s.shape:
                raise ValueError(f"weights of {s.name!r} have shape {np.shape(weights[s.name])}, not {s.shape}.")
            found[s.ids] = np.asarray(weights[s.name])[s.rows, s.cols]
        return found

    def activities(
        self, weights: Weights, X: np.ndarray, *, clamp: Mapping[tuple[str, int], float] | None = None
    ) -> dict[str, np.ndarray]:
        """Activity ``(n_samples, size)`` of every population; ``clamp`` holds units (population, index) at a value."""
        found = {self.populations[0].name: np.asarray(X, float)}
        for p in self.populations[1:]:
            found[p.name] = p.respond(self._drive(weights, found, p))
            for (name, unit), value in (clamp or {}).items():
                if name == p.name:
                    found[name][:, unit] = value
        return found

    def drive(self, weights: Weights, X: np.ndarray, population: str) -> np.ndarray:
        """Gain times summed input ``(n_samples, size)`` of a population, before its threshold."""
        return self._drive(
            weights, self.activities(weights, X), next(p for p in self.populations if p.name == population)
        )

    def _drive(self, weights: Weights, found: Mapping[str, np.ndarray], p: Population) -> np.ndarray:
        parts = [found[c.source] @ weights[c.name] for c in self.connections if c.target == p.name]
        return p.gain * sum(parts[1:], parts[0])

    def predict(self, weights: Weights, X: np.ndarray) -> np.ndarray:
        """Responses ``(n_samples,)``, or ``(n_samples, n_outputs)`` of an output population of several units."""
        response = self.activities(weights, X)[self.populations[-1].name]
        return response[:, 0] if response.shape[1] == 1 else response


@dataclass(frozen=True)
class FilterBank:
    """Fixed rectifying filters on a grid of positions: the known first layer of a retina.

    Parameters
    ----------
    kernels
        ``(n_kernels, height, width)``.
    biases
        ``(n_kernels,)``, added before rectification.
    stride
        Distance of neighbouring windows in pixels; windows start at multiples of it and images are
        zero-padded at the far edge where the last window runs over.

    Examples
    --------
    >>> bank = FilterBank(np.ones((1, 3, 3)), np.array([-4.0]), stride=2)
    >>> bank.transform(np.ones((1, 4, 4))).tolist()
    [[5.0, 2.0, 2.0, 0.0]]
    """

    kernels: np.ndarray
    biases: np.ndarray
    stride: int

    def transform(self, stimuli: np.ndarray) -> np.ndarray:
        """Responses ``(n, n_positions * n_kernels)`` to images ``(n, height, width)``; the kernel runs fastest."""
        n_kernels, height, width = self.kernels.shape
        pad = [(0, 0), (0, height - self.stride), (0, width - self.stride)]
        flat = self.kernels.reshape(n_kernels, -1).T.astype(np.float32)
        blocks = []
        for start in range(0, len(stimuli), 256):
            images = np.pad(np.asarray(stimuli[start : start + 256], np.float32), pad)
            windows = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(1, 2))
            windows = windows[:, :: self.stride, :: self.stride].reshape(len(images), -1, height * width)
            blocks.append(np.maximum(windows @ flat + self.biases.astype(np.float32), 0).reshape(len(images), -1))
        return np.concatenate(blocks)
