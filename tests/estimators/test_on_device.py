"""Parts of the analysis on a GPU that the tables of array kinds do not reach, against the CPU."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda import FLDA, SparseFLDA
from flda._data import device
from flda._data.fingerprint import fingerprint
from flda.inference import effect_tests, scale_check

from oracle import problem

AGE = {"nuisance": ["age"], "numeric": ["age"]}
RNG = np.random.default_rng(0)
X, Y = problem(90, 25, (2, 2))
X[RNG.random(X.shape) < 0.5] = 0
AGED = Y.assign(age=RNG.normal(size=len(Y)) + (Y["A"] == "A0"))
COUNTS = np.round(3 * np.abs(X)) + 1


def places(values):
    """A matrix that is sent to the device, stored by columns, and one that is there."""
    from cupyx.scipy.sparse import csr_matrix

    return device.OnDevice(sp.csc_array(values)), csr_matrix(sp.csr_matrix(values))


def tables(found):
    return pd.concat([found.table.select_dtypes("number"), found.genes.select_dtypes("number")]).to_numpy()


WORK = {
    "covariate, folds, dual": lambda X: FLDA(**AGE, shrinkage="cv", solver="dual").fit(X, AGED).eigenvalues_,
    "covariate, folds, primal": lambda X: FLDA(**AGE, shrinkage="cv", solver="primal").fit(X, AGED).eigenvalues_,
    "named contrast": lambda X: FLDA(
        shrinkage=0.3, contrasts={"c": ({"A": "A0", "B": "B0"}, {"A": "A1", "B": "B0"})}
    ).fit(X, Y).eigenvalues_,
    "gaps": lambda X: SparseFLDA(
        n_genes=3, gap_effort=0.02, shrinkage=0.3, solver="dual"
    ).fit(X, Y).optimality_gap_.to_numpy(),
    "flips, covariate": lambda X: tables(effect_tests(FLDA(**AGE, shrinkage=0.3), X, AGED, n_resamples=9)),
    "permutations": lambda X: tables(
        effect_tests(FLDA(shrinkage=0.3, interactions=None), X, Y, method="permutation", n_resamples=9)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORK)
def test_the_same_numbers(cupy, name):
    expected = WORK[name](X)
    assert np.isfinite(expected).any()
    for there in places(X):
        np.testing.assert_allclose(WORK[name](there), expected, rtol=1e-4 if name == "gaps" else 1e-6, atol=1e-9)


def test_counts_may_be_on_the_device(cupy):
    logs = np.log1p(COUNTS)
    expected = scale_check(FLDA(shrinkage=0.3), logs, Y, counts=COUNTS, n_resamples=9)
    for x, counts in zip(places(logs), places(COUNTS), strict=True):
        found = scale_check(FLDA(shrinkage=0.3), x, Y, counts=counts, n_resamples=9)
        pd.testing.assert_frame_equal(found.table, expected.table)


def test_a_hash_does_not_depend_on_the_device(cupy):
    assert {fingerprint(device.wrap(x), [["a"]]) for x in (X, cupy.asarray(X), *places(X))} == {fingerprint(X, [["a"]])}
