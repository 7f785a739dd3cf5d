"""Every function takes X as the estimators do, and names what is wrong with it."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda import FLDA, SparseFLDA
from flda._data.summary import NonFiniteError
from flda.inference import bootstrap, certify, choose_penalty, effect_tests, stability_selection

from array_kinds import SINGLE, kinds
from oracle import donor_problem

X, Y, DONORS = donor_problem(4, 12, 20)
MODEL = SparseFLDA(n_genes=3, shrinkage=0.5, interactions=None).fit(X, Y, DONORS)


def tables(X, y, donor=None):
    """What every function says, one after the other."""
    dense = FLDA(shrinkage=0.5, interactions=None)
    yield "certify", lambda: certify(dense, X, y, donor, n_folds=2)
    yield "choose_penalty", lambda: choose_penalty(dense, X, y, donor, penalties=[1.0], n_folds=2)[1]
    yield "stability_selection", lambda: stability_selection(MODEL, X, y, donor, n_resamples=2).genes
    yield "bootstrap", lambda: bootstrap(MODEL, X, y, donor, n_resamples=3).loadings
    yield "effect_tests", lambda: effect_tests(dense, X, y, donor, n_resamples=5).table


EXPECTED = {name: call() for name, call in tables(X, Y, DONORS)}


@pytest.mark.parametrize("kind", kinds(but=SINGLE))
def test_every_kind_of_array(store, kind):
    for name, call in tables(store(X), Y, DONORS):
        numbers = [t.select_dtypes("number") for t in (call(), EXPECTED[name])]
        np.testing.assert_allclose(*numbers, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("form", [pd.DataFrame, np.ndarray.tolist, sp.coo_matrix, sp.lil_array])
def test_every_other_form_of_a_matrix(form):
    for name, call in tables(form(X), Y, DONORS):
        pd.testing.assert_frame_equal(call(), EXPECTED[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", [list, pd.Series, pd.Categorical, np.array])
def test_every_form_of_donors_and_labels(form):
    for labels in (Y.astype("category"), Y.set_index(np.arange(len(Y)) + 7)):
        for name, call in tables(X, labels, form(DONORS)):
            pd.testing.assert_frame_equal(call(), EXPECTED[name])


def test_other_numbers_of_cells_are_refused():
    for _name, call in tables(X[:-1], Y, DONORS):
        with pytest.raises(ValueError, match=rf"\b{len(Y) - 1}\b.*\b{len(Y)}\b"):
            call()
    for _name, call in tables(X, Y, DONORS[:-1]):
        with pytest.raises(ValueError, match=rf"donor.*\b{len(Y)}\b"):
            call()


@pytest.mark.parametrize("kind", [np.array, sp.csr_array])
def test_a_value_that_is_no_number_is_refused(kind):
    bad = X.copy()
    gene = MODEL.selected_["treatment"][0][0]
    bad[5, gene] = np.nan
    for name, call in tables(kind(bad), Y, DONORS):
        with pytest.raises(ValueError if name == "bootstrap" else NonFiniteError, match="NaN"):
            call()
