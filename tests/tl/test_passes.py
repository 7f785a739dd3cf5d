"""How often a fit reads the data: counted for every cell where blocks of rows, or of columns, are taken."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import flda
from flda._data import arrays
from flda._data.kernels import scatter_times
from flda._solve.choose import SOLVERS

FACTORS = ["dendrite", "axon"]
N_OBS, N_VARS = 260, 70


def data(kind):
    adata = flda.datasets.t4t5_simulated(N_OBS, N_VARS)
    adata.X = {"dense": lambda X: X.toarray(), "CSR": sp.csr_array}[kind](adata.X.astype(np.float64))
    return adata


@pytest.fixture
def reads(monkeypatch, small_blocks):
    """How often each cell of a matrix in memory is read, (N,)."""
    counts = np.zeros(N_OBS)
    row_blocks, by_columns = arrays.row_blocks, arrays.by_columns

    def counted(X, n_bytes=None):
        for rows, block in row_blocks(X, n_bytes):
            if X.shape == (N_OBS, N_VARS):
                counts[rows] += 1
            yield rows, block

    class Columns:
        """A matrix by columns: a block of genes is its share of a pass."""

        def __init__(self, X):
            self.X = by_columns(X)

        def __getitem__(self, key):
            out = self.X[key]
            counts[:] += out.shape[1] / N_VARS
            return out

    def counted_scatter(X, *others):
        counts[:] += 1
        return scatter_times(X, *others)

    monkeypatch.setattr(arrays, "row_blocks", counted)
    monkeypatch.setattr("flda._solve.residuals.scatter_times", counted_scatter)
    monkeypatch.setattr(arrays, "by_columns", Columns)
    return counts


class File:
    """A matrix on disk that counts how often each of its rows is read."""

    def __init__(self, matrix, counts):
        self.matrix, self.counts = matrix, counts
        self.shape, self.dtype = matrix.shape, matrix.dtype

    def __getitem__(self, rows):
        self.counts[rows] += 1
        return self.matrix[rows]


@pytest.fixture
def file_reads(monkeypatch, small_blocks):
    """How often each cell of a matrix on disk is read, (N,)."""
    counts, of = np.zeros(N_OBS), arrays.Stream.of
    monkeypatch.setattr(arrays.Stream, "of", lambda matrix: of(File(matrix, counts)))
    return counts


@pytest.mark.parametrize("kind", ["dense", "CSR"])
@pytest.mark.parametrize(("solver", "passes"), [("primal", 4), ("dual", 5)])
@pytest.mark.parametrize("donor", [None, "donor"])
def test_of_data_in_memory(reads, monkeypatch, kind, solver, passes, donor):
    """Sums; the scatter, or the Gram matrix and the axes from it; the residual; the scores."""
    monkeypatch.setattr("flda.estimators._flda.choose_solver", lambda *_: SOLVERS[solver])
    adata = data(kind)
    flda.tl.flda(adata, FACTORS, donor=donor, shrinkage=0.5)
    assert adata.uns["flda"]["fit"]["solver"] == solver
    np.testing.assert_allclose(reads, passes)


@pytest.mark.parametrize("kind", ["dense", "CSR"])
def test_of_a_file(file_reads, tmp_path, kind):
    """Sums, scatter, residual and scores; the density of the file is seen in the first pass."""
    data(kind).write_h5ad(tmp_path / "x.h5ad")
    adata = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    assert adata.uns["flda"]["fit"]["solver"] == "primal"
    np.testing.assert_array_equal(file_reads, 4)


@pytest.mark.parametrize("kind", ["dense", "CSR"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_with_cross_validated_shrinkage(reads, file_reads, tmp_path, kind, on_disk):
    """Sums; the scatters of all folds; the held-out cells of all folds; the residual; the scores."""
    adata, seen = data(kind), file_reads if on_disk else reads
    if on_disk:
        adata.write_h5ad(tmp_path / "x.h5ad")
        adata = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    flda.tl.flda(adata, FACTORS)
    assert adata.uns["flda"]["fit"]["solver"] == "primal"
    # in memory the held-out cells are copied, and not counted here
    np.testing.assert_array_equal(seen, 5 if on_disk else 4)
