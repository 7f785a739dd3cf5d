"""The description of the data of a fit: what it depends on, and what it does not depend on."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda._adata.identity import describe, difference, project

N, P = 40, 7
NAMES, GENES = pd.Index([f"c{i}" for i in range(N)]), pd.Index([f"g{j}" for j in range(P)])
X = np.random.default_rng(0).gamma(2.0, size=(N, P))
LABELS = pd.Series(np.tile(["a", "b"], N // 2))
FITTED = np.arange(N) > 3


def of(X=X, names=NAMES, labels=LABELS, fitted=FITTED, genes=GENES):
    return describe(names, {"y": labels}, fitted, genes, project(X, genes))


def test_order_storage_and_other_cells_make_no_difference():
    cells, genes = np.random.default_rng(1).permutation(N), np.random.default_rng(2).permutation(P)
    turned = of(X[cells][:, genes], NAMES[cells], LABELS[cells].astype("category"), FITTED[cells], GENES[genes])
    for now in (of(sp.csc_matrix(X)), of(X.astype(np.float32)), turned):
        assert difference(of(), now, "X") is None
    few = of(X[FITTED], NAMES[FITTED], LABELS[FITTED].reset_index(drop=True), FITTED[FITTED])
    assert difference(of(), few, "X") is None


@pytest.mark.parametrize("change", [1e-3, np.nan])
def test_one_value_makes_a_difference(change):
    other = X.copy()
    other[20, 3] += change
    assert "X" in difference(of(), of(other), "X")
    other = X.copy()
    other[[20, 21]] = other[[21, 20]]
    assert "X" in difference(of(), of(other), "X")


def test_names_and_labels_make_a_difference():
    moved = LABELS.copy()
    moved[[20, 21]] = moved[[21, 20]].to_numpy()
    assert "obs['y']" in difference(of(), of(labels=moved), "X")
    assert "36 cells" in difference(of(), of(fitted=FITTED & (np.arange(N) != 9)), "X")
    assert "others" in difference(of(), of(names=NAMES + "_"), "X")
    assert "7 genes" in difference(of(), of(X[:, 1:], genes=GENES[1:]), "X")
