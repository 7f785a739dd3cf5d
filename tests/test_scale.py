"""The same numbers from every kind of storage, solver and scheduler."""

import os
import signal

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flda
from flda import FLDA, SparseFLDA
from flda._data import arrays
from flda._data.arrays import Stream
from flda._design.design import make_design
from flda._solve.choose import choose_solver
from flda._solve.iterative import solve_family
from flda._solve.within import Within

from oracle import donor_problem, problem, within_scatter

FACTORS = ["dendrite", "axon"]


def data(n_obs=260, n_vars=70):
    adata = flda.datasets.t4t5_simulated(n_obs, n_vars)
    adata.X = adata.X.astype(np.float64)
    return adata


def dask_of(X, rows, columns=None):
    da = pytest.importorskip("dask.array")
    columns = columns or X.shape[1]
    if not sp.issparse(X):
        return da.from_array(X, chunks=(rows, columns))
    blocks = [da.from_array(X[i : i + rows], chunks=-1, asarray=False) for i in range(0, X.shape[0], rows)]
    return da.concatenate(blocks, axis=0)


KINDS = {
    "stream of CSR": lambda X: Stream.of(X),
    "stream of dense": lambda X: Stream.of(X.toarray()),
    "dask of CSR, 40 rows": lambda X: dask_of(X, 40),
    "dask of CSR, one chunk": lambda X: dask_of(X, 1000),
    "dask of dense, 100 x 30": lambda X: dask_of(X.toarray(), 100, 30),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 8 * 70 * 33)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shrinkage", [0.3, "cv", "ledoit-wolf"])
def test_every_storage_gives_the_same_fit(kind, shrinkage):
    adata = data()
    y = adata.obs[FACTORS]
    expected = FLDA(shrinkage=shrinkage, random_state=0).fit(adata.X, y)
    X = KINDS[kind](adata.X)
    model = FLDA(shrinkage=shrinkage, random_state=0).fit(X, y)
    assert model.solver_ == "primal"
    assert model.shrinkage_ == pytest.approx(expected.shrinkage_, rel=1e-10)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)
    np.testing.assert_allclose(model.transform(X), expected.transform(adata.X), atol=1e-8)
    pd.testing.assert_frame_equal(model.predict(X), expected.predict(adata.X))


@pytest.mark.parametrize("kind", ["stream of CSR", "dask of CSR, 40 rows"])
def test_sparse_axes_and_donors_from_blocks(kind):
    X, y, donors = donor_problem(4, 12, 30)
    X = sp.csr_array(X)
    expected = SparseFLDA(n_genes=4, shrinkage=0.4).fit(X, y, groups=donors)
    model = SparseFLDA(n_genes=4, shrinkage=0.4).fit(KINDS[kind](X), y, groups=donors)
    for effect, axes in expected.selected_.items():
        np.testing.assert_array_equal(model.selected_[effect], axes)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array, lambda X: Stream.of(X)])
@pytest.mark.parametrize("n_genes", [30, 150])
@pytest.mark.parametrize("target", ["diagonal", "identity"])
def test_iterative_equals_direct(storage, n_genes, target):
    X, y = problem(120, n_genes, (2, 3), seed=4)
    options = {"shrinkage_target": target, "random_state": 0}
    for g in (0.02, 0.6, "cv"):
        expected = FLDA(shrinkage=g, **options).fit(X, y)
        model = FLDA(shrinkage=g, solver="iterative", **options).fit(storage(X), y)
        assert model.solver_ == "iterative"
        assert model.shrinkage_ == expected.shrinkage_
        np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)
        cosine = np.abs(np.sum(model.components_ * expected.components_, axis=1))
        cosine /= np.linalg.norm(model.components_, axis=1) * np.linalg.norm(expected.components_, axis=1)
        np.testing.assert_allclose(cosine, 1, atol=1e-8)
        assert model.residual_ < 1e-9


def test_iterative_with_donors_and_sparse_axes():
    X, y, donors = donor_problem(4, 12, 40)
    expected = SparseFLDA(n_genes=4, shrinkage="cv", random_state=0).fit(X, y, groups=donors)
    model = SparseFLDA(n_genes=4, shrinkage="cv", solver="iterative", random_state=0).fit(X, y, groups=donors)
    assert model.shrinkage_ == expected.shrinkage_
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


def test_iterative_on_ill_conditioned_data():
    """Standard deviations over six decades, condition number of the scatter 1e12 before shrinkage."""
    X, y = problem(400, 40, (2, 2), seed=3, condition=1e6)
    model = FLDA(shrinkage=0.01, solver="iterative").fit(X, y)
    expected = FLDA(shrinkage=0.01, solver="primal").fit(X, y)
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


def test_one_krylov_space_serves_all_shrinkage():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 50))
    M, target, B = A.T @ A / 60, rng.uniform(0.5, 2, 50), rng.normal(size=(50, 4))
    B[:, 3] = B[:, 0] - B[:, 1]  # of lower rank
    calls = []

    def times(V):
        calls.append(V.shape[1])
        return M @ V

    grid = [0.01, 0.2, 0.9]
    for g, Z in zip(grid, solve_family(times, target, grid, B), strict=True):
        np.testing.assert_allclose(Z, np.linalg.solve((1 - g) * M + g * np.diag(target), B), atol=1e-9)
    assert sum(calls) <= 60  # three right-hand sides, 50 dimensions
    assert not np.any(solve_family(times, target, [0.5], np.zeros((50, 2)))[0])


def test_iterative_says_what_it_cannot_do():
    X, y = problem(60, 80, (2, 2))
    with pytest.raises(ValueError, match="cannot tell Ledoit-Wolf's"):
        FLDA(solver="iterative", shrinkage="ledoit-wolf").fit(X, y)
    with pytest.raises(ValueError, match="singular"):
        FLDA(solver="iterative", shrinkage=0).fit(X[:, :5], y)
    with pytest.raises(ValueError, match="solver='dual' needs the data in memory"):
        FLDA(solver="dual").fit(Stream.of(X), y)


def test_the_solver_is_chosen_by_memory(monkeypatch, caplog):
    X = sp.csr_array((2000, 3000))
    assert choose_solver("auto", X, 0.5, 8).name == "dual"
    assert choose_solver("auto", X.T.tocsr(), 0.5, 8).name == "primal"
    assert choose_solver("auto", Stream.of(X), 0.5, 8).name == "primal"
    monkeypatch.setattr("flda._solve.choose.available_memory", lambda: 1e8)
    with caplog.at_level("INFO", logger="flda"):
        assert choose_solver("auto", X, 0.5, 8).name == "iterative"
    assert "2000 cells x 3000 genes; primal takes 0.18 GB, dual 0.081, 0.1 are free" in caplog.text
    assert choose_solver("auto", X, 0, 8).name == "primal"


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("samples", [False, True])
def test_thin_products_equal_the_definition(shift, samples):
    """Products of sparse rows, and, with means 10,000 times the spread, the centred blocks that take over."""
    rng = np.random.default_rng(0)
    X = sp.csr_array(rng.random((300, 40)) * (rng.random((300, 40)) < 0.08))
    if shift:
        X = sp.csr_array(sp.hstack([X, shift + rng.normal(size=(300, 1))]))
    y = pd.DataFrame({"A": rng.integers(2, size=300).astype(str), "B": rng.integers(3, size=300).astype(str)})
    design = make_design(y)
    of = None
    if samples:
        from flda._design.samples import Samples

        of = Samples.of(design.codes, rng.integers(4, size=300))
    assert arrays.is_thin(X)
    thin = Within.from_data(X, design.codes, design.counts, "pooled", of)
    dense = Within.from_data(X.toarray(), design.codes, design.counts, "pooled", of)
    some = np.flatnonzero(rng.random(300) < 0.4)
    for cells in (None, some):
        got, expected = thin.gene_scatter(cells), dense.gene_scatter(cells)
        np.testing.assert_allclose(got, expected, atol=1e-9 * np.abs(expected).max())
        np.testing.assert_allclose(got, got.T)
    if not samples:
        np.testing.assert_allclose(thin.gene_scatter(), within_scatter(X.toarray(), y, "pooled")[0], atol=1e-9)


def test_thin_products_of_unsorted_rows_with_duplicates():
    from flda._data.kernels import add_sparse_gram

    data, genes = np.array([2.0, 3.0, 1.0, 4.0]), np.array([3, 1, 3, 0])
    block = sp.csr_array((data, genes, np.array([0, 3, 4])), shape=(2, 5))
    out, weights = np.zeros((5, 5)), np.array([0.5, 2.0])
    add_sparse_gram(out, block, weights)
    X = block.toarray()
    np.testing.assert_allclose(out, np.triu(X.T @ (weights[:, None] * X)))
    np.testing.assert_array_equal(block.data, data)


@pytest.mark.parametrize("storage", ["backed CSR", "backed dense", "backed CSC", "lazy h5ad", "lazy zarr"])
def test_tools_read_from_disk(tmp_path, storage):
    adata = data()
    memory = adata.copy()
    adata.X = {"backed dense": lambda X: X.toarray(), "backed CSC": sp.csc_matrix}.get(storage, sp.csr_matrix)(adata.X)
    path = tmp_path / ("x.zarr" if "zarr" in storage else "x.h5ad")
    getattr(adata, f"write_{path.suffix[1:]}")(path)
    if storage.startswith("lazy"):
        pytest.importorskip("xarray")
        pytest.importorskip("dask")
        disk = ad.experimental.read_lazy(path)
    else:
        disk = ad.read_h5ad(path, backed="r")
    for each in (memory, disk):
        flda.tl.flda(each, FACTORS, shrinkage="cv", mask_var=np.arange(70) < 60)
        flda.tl.rank_genes(each, n_genes=3)
    np.testing.assert_allclose(disk.obsm["X_flda"], memory.obsm["X_flda"], atol=1e-7)
    pd.testing.assert_frame_equal(flda.get.rank_genes_df(disk), flda.get.rank_genes_df(memory))
    flda.tl.certify(memory, n_folds=2)
    flda.tl.certify(disk, n_folds=2)
    pd.testing.assert_frame_equal(flda.get.certificate_df(disk), flda.get.certificate_df(memory), rtol=1e-6)


def test_a_bad_value_in_a_block_is_named(tmp_path):
    adata = data()
    X = adata.X.toarray()
    X[201, 5] = np.nan
    adata.X = sp.csr_matrix(X)
    adata.write_h5ad(tmp_path / "x.h5ad")
    disk = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    with pytest.raises(
        ValueError, match=rf"contains nan for gene '{adata.var_names[5]}' in cell '{adata.obs_names[201]}'"
    ):
        flda.tl.flda(disk, FACTORS)
    pytest.importorskip("dask")
    with pytest.raises(ValueError, match="contains NaN in row 201, column 5"):
        FLDA().fit(dask_of(adata.X, 50), adata.obs[FACTORS])


def test_a_truncated_file_is_named(tmp_path, capsys):
    adata = data()
    path = tmp_path / "x.h5ad"
    adata.write_h5ad(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    from flda.cli._commands import main

    assert main(["run", str(path), "--factors", *FACTORS, "--backed", "--out", str(tmp_path / "out")]) == 2
    assert f"cannot read {path}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_run_backed_writes_the_same_rankings(tmp_path):
    from flda.cli._commands import main

    data().write_h5ad(tmp_path / "x.h5ad")
    for name, flags in {"memory": [], "disk": ["--backed"]}.items():
        out = tmp_path / name
        assert (
            main(["run", str(tmp_path / "x.h5ad"), "--factors", *FACTORS, "--n-genes", "3", "--out", str(out), *flags])
            == 0
        )
    tables = [pd.read_csv(tmp_path / name / "gene_rankings.csv") for name in ("memory", "disk")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)
    assert ad.read_h5ad(tmp_path / "disk" / "result.h5ad").shape == (260, 70)


def test_cells_of_a_stream_keep_their_order():
    X = np.arange(12.0).reshape(6, 2)
    stream = Stream.of(X)[np.array([1, 3, 4])]
    np.testing.assert_array_equal(arrays.times(stream, np.eye(2)), X[[1, 3, 4]])
    np.testing.assert_array_equal(arrays.times(stream[:, np.array([False, True])], np.eye(1)), X[[1, 3, 4], 1:])
    with pytest.raises(ValueError, match="only be chosen in their order"):
        stream[np.array([2, 0])]


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_cluster_gives_the_same_fit(n_workers):
    distributed = pytest.importorskip("distributed")
    adata = data(600, 60)
    expected = FLDA(shrinkage="cv", random_state=0).fit(adata.X, adata.obs[FACTORS])
    with (
        distributed.LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
    ):
        model = FLDA(shrinkage="cv", random_state=0).fit(dask_of(adata.X, 100), adata.obs[FACTORS])
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)


@pytest.mark.slow
def test_a_killed_worker_does_not_change_the_fit():
    distributed = pytest.importorskip("distributed")
    adata = data(600, 60)
    expected = FLDA(shrinkage=0.3).fit(adata.X, adata.obs[FACTORS])
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        future = client.submit(sum, [1, 2])  # the cluster is up
        assert future.result() == 3
        os.kill(pids[0], signal.SIGKILL)
        model = FLDA(shrinkage=0.3).fit(dask_of(adata.X, 50), adata.obs[FACTORS])
    np.testing.assert_allclose(model.eigenvalues_, expected.eigenvalues_, rtol=1e-8)
