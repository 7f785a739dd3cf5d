"""Which cells, genes, labels and values a fit was made from, in a form that says later whether they are still the same.

Nothing here depends on the order of cells and genes, on how the matrix is stored, or on cells and genes that took no
part in the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .._data import arrays

N_PROJECTIONS = 2
TOLERANCE = 1e-6  # relative to the projections: more than rounding to single precision, less than one changed value
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication permutes the numbers of 64 bits


def hashed(values: Any) -> np.ndarray:
    """Return a number of 64 bits for the text of every value, (N,)."""
    codes, found = pd.factorize(np.asarray(values, dtype=object), use_na_sentinel=False)
    return pd.util.hash_array(np.array([str(v) for v in found], dtype=object), categorize=False)[codes]


def gene_weights(genes: pd.Index) -> np.ndarray:
    """Return pseudo-random numbers between -1 and 1 that depend on the name of a gene alone, p x N_PROJECTIONS."""
    return _uniform(hashed(genes))


def describe(
    names: pd.Index,
    labels: Mapping[str, pd.Series],
    fitted: np.ndarray,
    genes: pd.Index,
    projections: np.ndarray,
    scores: np.ndarray | None = None,
) -> dict[str, Any]:
    """Describe the data of a fit.

    Parameters
    ----------
    names
        Names of all cells.
    labels
        Column of ``obs`` -> its values in all cells.
    fitted
        Which cells the fit used, boolean.
    genes
        Names of the genes of the fit.
    projections
        Expression times :func:`gene_weights`: of all cells, or of the fitted cells.
    scores
        Scores of all cells.

    Returns
    -------
    ``n_cells, n_genes``; hashes of ``cells``, ``genes`` and, by column, ``labels``; ``values``, sums of the expression
    with pseudo-random weights of cells and genes, and the size of their terms, ``scale``; and ``scored``, a sorted hash
    for the name and the scores of every cell.
    """
    of_names = hashed(names)
    projections = projections if len(projections) == fitted.sum() else projections[fitted]
    terms = _uniform(of_names[fitted]) * projections
    found = {
        "n_cells": int(fitted.sum()),
        "n_genes": len(genes),
        "cells": _combined(of_names[fitted]),
        "genes": _combined(hashed(genes)),
        "labels": {
            column: _combined(_mixed(of_names[fitted], hashed(values[fitted]))) for column, values in labels.items()
        },
        "values": terms.sum(axis=0),
        "scale": np.sqrt(np.sum(terms**2, axis=0)),
    }
    return found if scores is None else {**found, "scored": np.sort(cell_hashes(names, scores))}


def cell_hashes(names: pd.Index, scores: np.ndarray) -> np.ndarray:
    """Return a number of 64 bits for the name and the scores of every cell, (N,)."""
    bits = np.ascontiguousarray(scores, dtype=np.float64).view(np.uint64)
    out = hashed(names)
    for j in range(bits.shape[1]):
        out = _mixed(out, bits[:, j])
    return out


def difference(then: Mapping[str, Any], now: Mapping[str, Any], matrix: str) -> str | None:
    """Say in a few words what differs between two results of :func:`describe`, or return None if nothing does.

    Parameters
    ----------
    then, now
        The data of the fit, and those that there are now.
    matrix
        What messages call the matrix.
    """
    for what in ("cells", "genes"):
        if then[what] != now[what]:
            n, m = then[f"n_{what}"], now[f"n_{what}"]
            return f"the fit used {n} {what}, and there are now {m if n != m else 'others'}"
    for column, text in then["labels"].items():
        if now["labels"].get(column) != text:
            return f"labels in obs[{column!r}] are not those of the fit"
    moved = np.abs(np.asarray(then["values"]) - now["values"])
    if not (moved <= TOLERANCE * np.maximum(then["scale"], now["scale"])).all():
        return f"values of {matrix} are not those of the fit"
    return None


def project(X: Any, genes: pd.Index) -> np.ndarray:
    """Compute expression times :func:`gene_weights`, N x N_PROJECTIONS, in one pass."""
    return arrays.times(X, gene_weights(genes))


def _uniform(hashes: np.ndarray) -> np.ndarray:
    """Return N_PROJECTIONS columns of numbers between -1 and 1 from numbers of 64 bits."""
    columns = [pd.util.hash_array(_mixed(hashes, np.uint64(j + 1))) for j in range(N_PROJECTIONS)]
    return np.column_stack(columns) / 2.0**63 - 1.0


def _mixed(a: np.ndarray, b: np.ndarray | np.uint64) -> np.ndarray:
    """Combine numbers of 64 bits, such that the order of the two matters."""
    with np.errstate(over="ignore"):
        return pd.util.hash_array(a * _MULTIPLIER + b)


def _combined(hashes: np.ndarray) -> str:
    """Return one text for a set of numbers, which does not depend on their order."""
    with np.errstate(over="ignore"):
        mixed = pd.util.hash_array(hashes * _MULTIPLIER)
        return f"{int(np.sum(hashes, dtype=np.uint64)):016x}{int(np.sum(mixed, dtype=np.uint64)):016x}"
