"""The same numbers from every kind of storage, solver and scheduler, on the CPU and on a GPU."""

import os
import signal

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, SparseFLDA
from flda._data import arrays, summary
from flda._data.summary import NonFiniteError

from array_kinds import BLOCKS, DEVICE, IN_BLOCKS, SINGLE, dask_of, kinds
from oracle import donor_problem, problem

OPTIONS = [
    (30, {"shrinkage": 0.2}),
    (30, {"shrinkage": 0}),
    (30, {"shrinkage": "cv"}),
    (30, {"shrinkage": "oas", "within": "balanced"}),
    (150, {"shrinkage": 0.3, "solver": "dual"}),
    (150, {"shrinkage": "cv", "solver": "dual"}),
    (150, {"shrinkage": "ledoit-wolf", "solver": "dual", "shrinkage_target": "identity"}),
    (150, {"shrinkage": 0.3, "solver": "iterative", "within": "balanced"}),
]


CASES = [
    (kind, n_genes, options)
    for n_genes, options in OPTIONS
    for kind in kinds(but=IN_BLOCKS if options.get("solver") == "dual" else ())
]


@pytest.mark.parametrize(
    ("kind", "n_genes", "options"), CASES, ids=[" ".join([k, *map(str, o.values())]) for k, _, o in CASES]
)
@pytest.mark.parametrize("thin", [False, True])
def test_every_kind_of_array_gives_the_same_fit(store, kind, n_genes, options, thin, monkeypatch):
    X, y = problem(200, n_genes, (2, 3))
    if thin:
        monkeypatch.setattr(arrays, "MANY", 1)  # with the compiled loops that large matrices use
        monkeypatch.setattr(summary, "COMPILED", 1)
        X[np.random.default_rng(0).random(X.shape) > 0.1] = 0
    X = X.astype(np.float32).astype(np.float64)  # what every kind can hold
    expected, model = FLDA(**options).fit(X, y), FLDA(**options).fit(store(X), y)
    assert model.shrinkage_ == pytest.approx(expected.shrinkage_, rel=1e-9)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)
    np.testing.assert_allclose(model.components_, expected.components_, atol=1e-7 * np.abs(expected.components_).max())
    scores = model.transform(store(X))
    assert type(scores) is np.ndarray
    np.testing.assert_allclose(scores, expected.transform(X), atol=1e-6)
    pd.testing.assert_frame_equal(model.predict(store(X)), expected.predict(X))


@pytest.mark.parametrize(
    ("kind", "solver"),
    [
        (kind, solver)
        for solver in ("primal", "dual", "iterative")
        for kind in kinds(BLOCKS, DEVICE, but=IN_BLOCKS if solver == "dual" else ())
        if kind not in SINGLE
    ],
)
@pytest.mark.parametrize("shrinkage", [0.3, "cv"])
def test_donors(store, kind, solver, shrinkage):
    X, y, donors = donor_problem(4, 12, 30)
    options = {"shrinkage": shrinkage, "solver": solver}
    expected = FLDA(**options).fit(X, y, donors)
    model = FLDA(**options).fit(store(X), y, donors)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-6)
    assert model.shrinkage_ == expected.shrinkage_
    assert model.donor_share_ == pytest.approx(expected.donor_share_)


@pytest.mark.parametrize("kind", kinds(BLOCKS, DEVICE, but=SINGLE))
def test_sparse_axes_with_donors(store, kind):
    X, y, donors = donor_problem(4, 12, 60)
    expected = SparseFLDA(n_genes=4, shrinkage=0.4).fit(X, y, groups=donors)
    model = SparseFLDA(n_genes=4, shrinkage=0.4).fit(store(X), y, groups=donors)
    for effect, axes in expected.selected_.items():
        np.testing.assert_array_equal(model.selected_[effect], axes)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_named(store, kind, value):
    X, y = problem(200, 30, (2, 3))
    bad = X.copy()
    bad[70, 4] = value
    with pytest.raises(NonFiniteError) as error:
        FLDA(shrinkage=0.1).fit(store(bad), y)
    assert (error.value.row, error.value.column) == (70, 4)
    model = FLDA(shrinkage=0.1).fit(X, y)
    with pytest.raises(NonFiniteError) as error:
        model.transform(store(bad))
    assert (error.value.row, error.value.column) == (70, 4)


@pytest.mark.parametrize("kind", kinds())
def test_the_callers_matrix_stays_as_it_is(store, kind):
    X, y = problem(200, 30, (2, 3))
    X[np.random.default_rng(0).random(X.shape) > 0.3] = 0
    matrix, again = store(X), store(X)
    FLDA(shrinkage="cv").fit(matrix, y).transform(matrix)
    for name in ("data", "indices", "indptr"):
        if isinstance(getattr(matrix, name, None), np.ndarray):
            np.testing.assert_array_equal(getattr(matrix, name), getattr(again, name))
    if isinstance(matrix, np.ndarray):
        np.testing.assert_array_equal(matrix, again)


def test_singular_scatter_is_refused_on_the_device(cupy):
    X, y = problem(200, 30, (2, 3))
    X[:, 3] = X[:, 4]
    with pytest.raises(ValueError, match="shrinkage"):
        FLDA(shrinkage=0).fit(cupy.asarray(X), y)


def test_bool_and_integer_expression():
    X, y = problem(100, 15, (2, 2))
    expected = FLDA(shrinkage=0.2).fit((X > 3) * 1.0, y).eigenvalues_
    for dtype in (bool, np.int64, np.uint8):
        np.testing.assert_allclose(FLDA(shrinkage=0.2).fit((X > 3).astype(dtype), y).eigenvalues_, expected)


@pytest.fixture
def cluster(n_workers):
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    with (
        distributed.LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_cluster_gives_the_same_fit(cluster, n_workers):
    X, y = problem(600, 60, (2, 4))
    expected = FLDA(shrinkage="cv").fit(X, y)
    model = FLDA(shrinkage="cv").fit(dask_of(X, 100), y)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [2])
def test_a_killed_worker_does_not_change_the_fit(cluster, n_workers):
    X, y = problem(600, 60, (2, 4))
    expected = FLDA(shrinkage=0.3).fit(X, y)
    pids = list(cluster.run(os.getpid).values())
    assert cluster.submit(sum, [1, 2]).result() == 3  # the cluster is up
    os.kill(pids[0], signal.SIGKILL)
    model = FLDA(shrinkage=0.3).fit(dask_of(X, 50), y)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1])
def test_a_fit_that_loses_its_cluster_writes_nothing(cluster, n_workers):
    """The scheduler gives up when the chunk in the middle kills its worker: one error, and the AnnData is as it was."""
    from distributed.scheduler import KilledWorker

    X, y = problem(300, 60, (2, 4))
    cluster.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))

    def fatal(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    lazy = dask_of(X, 100).map_blocks(fatal, dtype=float, meta=np.empty((0, 0)))
    adata = ad.AnnData(lazy, obs=y.set_axis(y.index.astype(str)))
    with pytest.raises(KilledWorker):
        flda.tl.flda(adata, list(y), shrinkage=0.3)
    assert list(adata.obs) == list(y)
    assert [len(slot) for slot in (adata.uns, adata.obsm, adata.varm)] == [0, 0, 0]
