"""Feed-forward circuits of rectifying units with known signs on the synapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ._sign_mask import check_signs

Weights = Mapping[str, np.ndarray]  # dense matrices (n_source, n_target) by the name of the connection


@dataclass(frozen=True)
class Population:
    """Units of one kind, with responses ``f(gain * drive - threshold)``.

    Parameters
    ----------
    name
        Name, unique within a circuit.
    size
        Number of units.
    gain, threshold
        Known constants, one for all units or one per unit ``(size,)``. A known threshold other than zero fixes the
        scale of the incoming weights, which is otherwise undetermined for a rectifying unit.
    rectify
        If True, f is the positive part (relu); if False, the identity.

    Examples
    --------
    >>> from flda.circuits import Population
    >>> Population("amacrine", 25, gain=3.0, threshold=5.0).size
    25
    """

    name: str
    size: int
    gain: float | np.ndarray = 1.0
    threshold: float | np.ndarray = 0.0
    rectify: bool = True

    def respond(self, drive: np.ndarray) -> np.ndarray:
        """Compute the activity of the units from their drive.

        Parameters
        ----------
        drive
            ``(n_samples, size)``, gain times summed input.

        Returns
        -------
        ndarray of shape (n_samples, size)
            ``relu(drive - threshold)``, or ``drive - threshold`` without rectification.

        Examples
        --------
        >>> import numpy as np
        >>> from flda.circuits import Population
        >>> Population("amacrine", 2, threshold=5.0).respond(np.array([[4.0, 7.0]])).tolist()
        [[0.0, 2.0]]
        """
        return np.maximum(drive - self.threshold, 0.0) if self.rectify else drive - self.threshold


@dataclass(frozen=True)
class Connection:
    """Synapses from one population to a later one.

    Parameters
    ----------
    source, target
        Names of the two populations.
    signs
        ``(n_source, n_target)``: +1, -1, 0 where there is no synapse, NaN where the sign is unknown.
    sharing
        ``(n_source, n_target)`` integers, or None. Synapses with the same label share one weight, for example all
        synapses between two cell types. Labels of absent synapses are ignored.
    penalty
        Relative weight of these synapses in the L1 penalty; 0 leaves them unpenalised.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import Connection
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
class Synapses:
    """Synapses of a connection: entry ``(rows, cols)`` of its dense matrix is free weight number ``ids``."""

    name: str
    shape: tuple[int, int]
    rows: np.ndarray
    cols: np.ndarray
    ids: np.ndarray


class CircuitModel:
    """A feed-forward circuit: the first population receives the inputs, the last one is the output.

    The drive of a unit is the sum of its inputs' activities times weights, and its activity is
    ``relu(gain * drive - threshold)``. Inputs are taken as given; responses of fixed, known filters are computed once,
    before any fit (see :class:`FilterBank`).

    Parameters
    ----------
    populations
        Populations, in the order in which activity flows.
    connections
        Connections, each from an earlier population to a later one.

    Attributes
    ----------
    n_parameters : int
        Number of free weights; a shared weight counts once.
    signs : ndarray of shape (n_parameters,)
        +1, -1 or NaN (unknown) for every free weight.
    penalties : ndarray of shape (n_parameters,)
        Relative weight of every free weight in the L1 penalty.
    synapses : list
        For every connection the entries of its dense matrix that are synapses (``rows``, ``cols``), and the number of
        the free weight of each (``ids``).

    Raises
    ------
    ValueError
        If population names repeat, a sign matrix has the wrong shape or other values than +1, -1, 0 and NaN, a
        connection runs backwards, shared synapses differ in sign, or a population receives no connection.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import CircuitModel, Connection, Population
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
            raise ValueError("a circuit needs at least two populations with different names.")
        self.synapses: list[Synapses] = []
        signs, penalties = [], []
        start = 0
        for c in self.connections:
            for end in (c.source, c.target):
                if end not in order:
                    raise ValueError(
                        f"connection {c.name!r} names {end!r}, which is not a population; choose from {list(order)}."
                    )
            if order[c.source] >= order[c.target]:
                raise ValueError(
                    f"connection {c.name!r} runs backwards; list the populations in the order of the activity."
                )
            shape = (self.populations[order[c.source]].size, self.populations[order[c.target]].size)
            synapses, own = _synapses(c, shape, start)
            self.synapses.append(synapses)
            signs.append(own)
            penalties.append(np.full(len(own), float(c.penalty)))
            start += len(own)
        for p in self.populations[1:]:
            if p.name not in {c.target for c in self.connections}:
                raise ValueError(f"population {p.name!r} receives no connection; add one, or remove the population.")
        self.n_parameters = start
        self.signs = np.concatenate(signs)
        self.penalties = np.concatenate(penalties)

    def unsigned(self) -> CircuitModel:
        """Return the same circuit with every sign unknown.

        Returns
        -------
        CircuitModel
            A new model; this one does not change.
        """
        return self.with_signs(np.full(self.n_parameters, np.nan))

    def with_signs(self, signs: np.ndarray) -> CircuitModel:
        """Return the same circuit with other signs.

        Parameters
        ----------
        signs
            ``(n_parameters,)``: +1, -1 or NaN (unknown) for every free weight.

        Returns
        -------
        CircuitModel
            A new model; this one does not change.
        """
        connections = []
        for c, s in zip(self.connections, self.synapses, strict=True):
            mask = np.zeros(s.shape)
            mask[s.rows, s.cols] = np.asarray(signs)[s.ids]
            connections.append(replace(c, signs=mask))
        return CircuitModel(self.populations, connections)

    def with_thresholds(self, thresholds: Mapping[str, float | np.ndarray]) -> CircuitModel:
        """Return the same circuit with other thresholds.

        Parameters
        ----------
        thresholds
            New threshold by name of the population; populations that are not named keep theirs.

        Returns
        -------
        CircuitModel
            A new model; this one does not change.
        """
        return CircuitModel(
            [replace(p, threshold=thresholds.get(p.name, p.threshold)) for p in self.populations], self.connections
        )

    def weights(self, parameters: np.ndarray) -> dict[str, np.ndarray]:
        """Arrange free weights as dense matrices.

        Parameters
        ----------
        parameters
            ``(n_parameters,)`` values of the free weights.

        Returns
        -------
        dict
            Name of the connection -> matrix ``(n_source, n_target)``, zero where there is no synapse.
        """
        found = {}
        for s in self.synapses:
            found[s.name] = np.zeros(s.shape)
            found[s.name][s.rows, s.cols] = np.asarray(parameters)[s.ids]
        return found

    def parameters(self, weights: Weights) -> np.ndarray:
        """Read the free weights from dense matrices.

        Parameters
        ----------
        weights
            Name of the connection -> matrix ``(n_source, n_target)``. Entries without a synapse are ignored.

        Returns
        -------
        ndarray of shape (n_parameters,)
            Values of the free weights.

        Raises
        ------
        ValueError
            If a matrix has the wrong shape.
        """
        found = np.zeros(self.n_parameters)
        for s in self.synapses:
            if np.shape(weights[s.name]) != s.shape:
                raise ValueError(f"weights of {s.name!r} have shape {np.shape(weights[s.name])}; they need {s.shape}.")
            found[s.ids] = np.asarray(weights[s.name])[s.rows, s.cols]
        return found

    def activities(
        self, weights: Weights, X: np.ndarray, *, clamp: Mapping[tuple[str, int], float] | None = None
    ) -> dict[str, np.ndarray]:
        """Compute the activity of every population.

        Parameters
        ----------
        weights
            Name of the connection -> matrix ``(n_source, n_target)``.
        X
            ``(n_samples, n_inputs)`` activity of the first population.
        clamp
            Values at which units are held, by (population, index).

        Returns
        -------
        dict
            Name of the population -> activity ``(n_samples, size)``.
        """
        found = {self.populations[0].name: np.asarray(X, float)}
        for p in self.populations[1:]:
            found[p.name] = p.respond(self._drive(weights, found, p))
            for (name, unit), value in (clamp or {}).items():
                if name == p.name:
                    found[name][:, unit] = value
        return found

    def drive(self, weights: Weights, X: np.ndarray, population: str) -> np.ndarray:
        """Compute gain times summed input of a population, before its threshold.

        Parameters
        ----------
        weights, X
            As in :meth:`activities`.
        population
            Name of the population; not the first one, which has no inputs.

        Returns
        -------
        ndarray of shape (n_samples, size)
            Drive of every unit.
        """
        return self._drive(
            weights, self.activities(weights, X), next(p for p in self.populations if p.name == population)
        )

    def predict(self, weights: Weights, X: np.ndarray) -> np.ndarray:
        """Compute the responses of the output population.

        Parameters
        ----------
        weights, X
            As in :meth:`activities`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One dimension if there is one output unit.
        """
        response = self.activities(weights, X)[self.populations[-1].name]
        return response[:, 0] if response.shape[1] == 1 else response

    def score(self, weights: Weights, X: np.ndarray, y: np.ndarray) -> float:
        """Compute R^2, the share of the variance of the responses that the circuit predicts.

        Parameters
        ----------
        weights, X
            As in :meth:`activities`.
        y
            ``(n_samples,)`` or ``(n_samples, n_outputs)`` responses.

        Returns
        -------
        float
            1 for a perfect prediction, 0 for one no better than the mean, below 0 for a worse one. Several outputs are
            pooled.

        Examples
        --------
        >>> from flda.circuits import simulate
        >>> retina = simulate.retina_circuit("2", n_kernels=3)
        >>> retina.model.score(retina.truth, *retina.sample(20))
        1.0
        """
        y = np.asarray(y, float)
        error = y - self.predict(weights, X).reshape(y.shape)
        return float(1 - (error**2).sum() / ((y - y.mean(axis=0)) ** 2).sum())

    def _drive(self, weights: Weights, found: Mapping[str, np.ndarray], p: Population) -> np.ndarray:
        parts = [found[c.source] @ weights[c.name] for c in self.connections if c.target == p.name]
        return p.gain * sum(parts[1:], parts[0])


def _synapses(c: Connection, shape: tuple[int, int], start: int) -> tuple[Synapses, np.ndarray]:
    """Synapses of a connection, whose free weights are numbered from ``start``, and the signs of these weights."""
    mask = check_signs(c.signs, shape, what=f"signs of connection {c.name!r}")
    rows, cols = np.nonzero(mask != 0)  # NaN differs from 0: a synapse of unknown sign is a synapse
    signs = mask[rows, cols]
    if c.sharing is None:
        ids, first = np.arange(len(rows)), np.arange(len(rows))
    else:
        if np.shape(c.sharing) != shape:
            raise ValueError(f"sharing of connection {c.name!r} has shape {np.shape(c.sharing)}; it needs {shape}.")
        _, first, ids = np.unique(np.asarray(c.sharing)[rows, cols], return_index=True, return_inverse=True)
    own = signs[first]  # the sign of a weight is that of its first synapse; all others must have the same
    clash = ~((signs == own[ids]) | (np.isnan(signs) & np.isnan(own[ids])))
    if clash.any():
        i = np.flatnonzero(clash)[0]
        raise ValueError(
            f"connection {c.name!r}: synapse ({rows[i]}, {cols[i]}) has sign {signs[i]:g} but shares its weight with a "
            f"synapse of sign {own[ids[i]]:g}; give them different sharing labels."
        )
    return Synapses(c.name, shape, rows, cols, start + ids), own
