"""Wiring of single neurons: features by direction and partner, summarised by type for tests that exchange types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from ..._adata.read import in_memory
from ..._data import arrays, entry
from .._names import as_names
from .._tables import Wiring
from ._profiles import DIRECTIONS


@dataclass(frozen=True)
class Neurons:
    """Features of single neurons, and what becomes of them when neurons are summarised by type.

    Attributes
    ----------
    X : DataFrame
        Neurons x features.
    direction : ndarray
        Direction of every feature.
    codes : ndarray
        Type of every neuron, as a position in ``types``.
    types : Index
        Names of the types.
    """

    X: pd.DataFrame
    direction: np.ndarray
    codes: np.ndarray
    types: pd.Index

    @property
    def counts(self) -> np.ndarray:
        """Number of neurons of every type."""
        return np.bincount(self.codes, minlength=len(self.types))

    def labels(self, direction: str) -> pd.Index:
        """Names of the features of a direction, without the direction in front; with it if they were those of types."""
        full = self.X.columns[self.direction == direction]
        short = full.str.removeprefix(f"{direction} ")
        return pd.Index(np.where(short.isin(self.types), full, short), dtype=object)

    def matrix(self) -> pd.DataFrame:
        """Means of the types as connectivity: features that are inputs are rows, those that are outputs columns."""
        means = self.X.groupby(self.codes).mean().set_axis(self.types)
        pre, post = (self.types.append(self.labels(direction)) for direction in DIRECTIONS)
        out = pd.DataFrame(0.0, index=pre, columns=post)
        n = len(self.types)
        out.iloc[n:, :n] = means.loc[:, self.direction == "inputs"].T.to_numpy()
        out.iloc[:n, n:] = means.loc[:, self.direction == "outputs"].to_numpy()
        return out

    def of(self, types: pd.Index, labels: pd.Index, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """Features ``(N, k)`` of the neurons of some types, and the positions of their types among these."""
        position = types.get_indexer(self.types)[self.codes]
        keep = position >= 0
        columns = np.flatnonzero(self.direction == direction)[self.labels(direction).get_indexer(labels)]
        return self.X.to_numpy()[keep][:, columns], position[keep]


def read_neurons(neurons: AnnData, types: str, layer: str | None, within: bool) -> Neurons:
    """Features of neurons with a type; those of partners that are types themselves only with ``within``."""
    var = in_memory(neurons.var)
    obs = in_memory(neurons.obs)
    if "direction" not in var or not var["direction"].isin(DIRECTIONS).all():
        raise ValueError(
            "var of the neurons must say in the column 'direction' whether each feature is among the 'inputs' or the "
            "'outputs'; flda.circuits.wiring_features makes such features."
        )
    if types not in obs:
        raise ValueError(f"obs of the neurons has no column {types!r}; name the column of their types with types=.")
    if layer is not None and layer not in neurons.layers:
        names = ", ".join(name for name in neurons.layers if name is not None)
        raise ValueError(f"the neurons have no layer {layer!r}; they have {names or 'none'}.")
    values = arrays.dense(entry.matrix(neurons.X if layer is None else neurons.layers[layer])).astype(float)
    names = pd.Index(var.index.astype(str))
    if not np.isfinite(values).all():
        row, col = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"feature {names[col]!r} of neuron {obs.index[row]!r} is {values[row, col]:g}; use 0 for no synapse."
        )
    typed = obs[types].notna().to_numpy()
    codes, found = pd.factorize(as_names(obs.loc[typed, types]), sort=True)
    among = as_names(var["partner"]).isin(found) if "partner" in var else np.zeros(len(var), dtype=bool)
    if "among" in var:
        among = among | var["among"].to_numpy(bool)
    keep = np.ones(len(var), dtype=bool) if within else ~among
    X = pd.DataFrame(values[typed][:, keep], index=obs.index[typed], columns=names[keep])
    return Neurons(X, var["direction"].astype(str).to_numpy()[keep], codes, pd.Index(found, dtype=object))


def spread_of_neurons(X: np.ndarray, codes: np.ndarray) -> float:
    """Mean square distance of neurons from the mean of their types' means, summed over types.

    Every type counts the same, however many of its neurons were traced. The squares of the centred means of the types
    are the part of it that lies between types.
    """
    counts = np.bincount(codes)
    weight = 1 / counts[codes]
    centre = weight @ X / len(counts)
    return float(weight @ np.sum((X - centre) ** 2, axis=1))


def scores_of_neurons(X: np.ndarray, codes: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Wiring score of every neuron, on the wiring axis of the means of types without this neuron.

    NaN for the only neuron of a type.
    """
    counts = np.bincount(codes)
    means = np.zeros((len(counts), X.shape[1]))
    np.add.at(means, codes, X)
    means /= counts[:, None]
    s = s - s.mean()
    pattern = s @ means  # the wiring axis
    # without neuron i the mean of its type moves by (mean - x_i) / (n - 1), and the axis by s times that
    others = np.maximum(counts - 1, 1)[codes]
    axes = pattern + (s[codes] / others)[:, None] * (means[codes] - X)
    size = np.linalg.norm(axes, axis=1)
    t = np.divide(np.sum((X - means.mean(axis=0)) * axes, axis=1), size, out=np.zeros(len(X)), where=size > 0)
    return np.where(counts[codes] > 1, t, np.nan)


def wiring_features(wiring: Wiring, types: pd.DataFrame | list[str]) -> AnnData:
    """Synapses of single neurons as features: one per direction and type of the partner.

    FLDA applies to the wiring of neurons as it does to the expression of cells: :func:`flda.tl.flda` finds axes of the
    features, and :func:`flda.tl.certify` judges them on neurons that were held out. Neurons of one brain are not
    animals, so such results are about these neurons; tests that exchange types are those of
    :func:`decompose_connectivity` and :func:`link_axes`, which take the features too.

    Parameters
    ----------
    wiring
        Connections between single neurons: :func:`wiring_from_edges`, :func:`wiring_from_flywire` or
        :func:`wiring_from_neuprint` with ``by="neuron"``.
    types
        Types whose neurons become rows: a list, or a table of types (index) x factors, which are added to ``obs``.

    Returns
    -------
    AnnData with the numbers of synapses in ``X``, their square roots in ``layers["sqrt"]``, ``log1p`` of them in
    ``layers["log1p"]``, and

    * ``obs``: ``type``, and the factors
    * ``var``: ``direction`` (``"inputs"`` or ``"outputs"``), ``partner`` (a type), and ``among``, whether the partner
      is one of the types
    * ``uns["untyped"]``: share of the inputs and of the outputs whose partner has no type, and which are left out

    Raises
    ------
    ValueError
        If types repeat, if no neuron has a given type, or if neurons have no typed partner.

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import wiring_features, wiring_from_edges
    >>> edges = pd.DataFrame({"pre": [1, 1, 2], "post": [8, 9, 9], "n_synapses": [5, 2, 4]})
    >>> wiring = wiring_from_edges(edges, {"1": "Mi1", "2": "Tm9", "8": "T4a", "9": "T5a"}, by="neuron")
    >>> wiring_features(wiring, ["T4a", "T5a"]).to_df().T
    neuron        8    9
    inputs Mi1  5.0  2.0
    inputs Tm9  0.0  4.0
    """
    factors = types if isinstance(types, pd.DataFrame) else pd.DataFrame(index=list(types))
    factors = factors.set_axis(as_names(factors.index))
    if not factors.index.is_unique:
        raise ValueError(f"type {factors.index[factors.index.duplicated()][0]!r} occurs twice in types; keep one.")
    of = wiring.annotations["type"].fillna("")
    rows = pd.Index(of.index[of.isin(factors.index)], name="neuron").sort_values()
    absent = factors.index.difference(of)
    if len(absent):
        raise ValueError(
            f"no neuron of the wiring has the type {absent[0]!r}; check the names, and make the wiring with "
            "by='neuron'."
        )
    edges = wiring.edges
    parts = []
    for direction, own, other in (("inputs", "post", "pre"), ("outputs", "pre", "post")):
        part = pd.DataFrame(
            {"neuron": edges[own], "partner": edges[other].map(of).fillna(""), "n": edges["n_synapses"]}
        )
        parts.append(part.assign(direction=direction))
    synapses = pd.concat(parts, ignore_index=True)
    synapses = synapses[synapses["neuron"].isin(rows)]
    typed = synapses["partner"] != ""
    total, lost = (t.groupby("direction")["n"].sum() for t in (synapses, synapses[~typed]))
    if not typed.any():
        raise ValueError("the neurons of these types have no partner with a type; check the annotations.")
    table = synapses[typed].pivot_table(
        index="neuron", columns=["direction", "partner"], values="n", aggfunc="sum", fill_value=0.0
    )
    table = table.reindex(rows, fill_value=0.0)
    var = table.columns.to_frame(index=False)
    var["among"] = var["partner"].isin(factors.index)
    var.index = pd.Index([" ".join(column) for column in table.columns])
    obs = pd.DataFrame({"type": pd.Categorical(of[rows])}, index=rows)
    for name in factors:
        obs[name] = pd.Categorical(factors[name].loc[of[rows]].to_numpy())
    X = table.to_numpy(dtype=float)
    untyped = {d: float(lost.get(d, 0.0) / total[d]) for d in total.index}
    return AnnData(X, obs=obs, var=var, layers={"sqrt": np.sqrt(X), "log1p": np.log1p(X)}, uns={"untyped": untyped})
