"""Every call that takes ``n_jobs``: the threads change nothing in its results, and what is quiet stays quiet."""

import inspect
import threading

import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, SparseFLDA, inference
from flda._logging import quiet, warn
from flda._progress import each

FACTORS = ["dendrite", "axon"]
DENSE, SPARSE = FLDA(shrinkage=0.5), SparseFLDA(n_genes=2, n_components=1, shrinkage=0.5)


@pytest.fixture(scope="module")
def pilot():
    return flda.datasets.t4t5_simulated(160, 50)


CALLS = {
    "certify": lambda a, X, y, **n: inference.certify(DENSE, X, y, n_folds=3, n_repeats=2, **n),
    "choose_penalty": lambda a, X, y, **n: inference.choose_penalty(DENSE, X, y, penalties=[1, 10], n_folds=3, **n)[1],
    "stability_selection": lambda a, X, y, **n: inference.stability_selection(SPARSE, X, y, n_resamples=4, **n).genes,
    "bootstrap": lambda a, X, y, **n: inference.bootstrap(SPARSE, X, y, n_resamples=8, **n).loadings,
    "certify_counterfactual": lambda a, X, y, **n: inference.certify_counterfactual(DENSE, X, y, change="axon", **n),
    "power": lambda a, X, y, **n: (
        flda.simulate.power(a, FACTORS, n_cells=[5], n_studies=2, n_genes=2, shrinkage=0.5, **n).studies
    ),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_results_do_not_depend_on_the_number_of_threads(pilot, name):
    run = CALLS[name]
    one, two = (run(pilot, pilot.X, pilot.obs[FACTORS], n_jobs=n) for n in (1, 2))
    pd.testing.assert_frame_equal(one, two, rtol=1e-10)


def test_results_in_an_anndata_do_not_depend_on_the_number_of_threads(pilot):
    found = []
    for n in (1, 2):
        adata = pilot.copy()
        flda.tl.flda(adata, FACTORS, shrinkage=0.5, n_components=1)
        flda.tl.rank_genes(adata, n_genes=2)
        flda.tl.held_out_scores(adata, n_jobs=n)
        flda.tl.certify(adata, n_folds=2, genes="all", n_jobs=n)
        flda.tl.choose_penalty(adata, penalties=[1], n_folds=2, n_jobs=n)
        flda.tl.path(adata, n_genes=[2], n_folds=2, n_jobs=n)
        flda.tl.stability(adata, n_resamples=2, n_bootstraps=4, n_jobs=n)
        flda.tl.certify_counterfactual(adata, {"dendrite": "T5"}, n_jobs=n)
        record = adata.uns["flda"]
        tables = [record["certificate"], record["penalties"]["table"], record["stability"]["loadings"], record["path"]]
        found.append([*tables, record["counterfactual_certificate"], pd.DataFrame(adata.obsm["X_flda_held_out"])])
    for one, two in zip(*found, strict=True):
        pd.testing.assert_frame_equal(one, two, rtol=1e-10)


def test_every_public_call_with_folds_or_resamples_takes_n_jobs():
    loops = {"n_folds", "n_studies", "n_repeats"}
    for room in (flda.tl, inference, flda.simulate):
        for name in room.__all__:
            call = getattr(room, name)
            if inspect.isfunction(call) and loops & set(inspect.signature(call).parameters):
                assert "n_jobs" in inspect.signature(call).parameters, name


def test_threads_work_at_the_same_time_and_results_keep_their_order():
    both = threading.Barrier(2, timeout=20)
    assert list(each(lambda i: (both.wait(), i)[1], range(4), desc="", n_jobs=2, total=4)) == [0, 1, 2, 3]


def test_threads_are_as_quiet_as_their_caller(recwarn):
    def loud(i):
        warn(f"item {i}")
        return np.square(i)

    with quiet():
        assert list(each(loud, [1, 2, 3], desc="", n_jobs=2)) == [1, 4, 9]
    assert not recwarn.list
    list(each(loud, [1], desc="", n_jobs=2))
    assert [str(w.message) for w in recwarn.list] == ["item 1"]
