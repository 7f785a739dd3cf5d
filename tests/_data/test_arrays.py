"""Blocks of rows and products with them, whatever the matrix is stored as."""

import numpy as np
import pytest
import scipy.sparse as sp

from flda._data import arrays, device
from flda._data.arrays import Stream

from array_kinds import BLOCKS, DEVICE, EVERY, KINDS, SINGLE, kinds

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(150, 40)) * (RNG.random((150, 40)) < 0.4), 1)
CODES = RNG.integers(3, size=150)


def stored(store, values):
    """A matrix as estimators see it: arrays that are on a GPU are wrapped."""
    return device.wrap(store(values))


def tolerance(kind):
    return 1e-5 if kind in SINGLE else 1e-12


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("many", [1, arrays.MANY])
def test_products_with_thin_matrices(store, kind, many, monkeypatch):
    monkeypatch.setattr(arrays, "MANY", many)
    right, left = RNG.normal(size=(40, 3)), RNG.normal(size=(150, 2))
    matrix, near = stored(store, X), {"atol": 100 * tolerance(kind)}
    np.testing.assert_allclose(arrays.times(matrix, right), X @ right, **near)
    np.testing.assert_allclose(arrays.transposed_times(matrix, left), X.T @ left, **near)
    np.testing.assert_allclose(arrays.group_sums(matrix, CODES, 3)[1], X[CODES == 1].sum(axis=0), **near)


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS))
def test_cells_in_which_a_gene_is_seen(store, kind):
    np.testing.assert_array_equal(arrays.detected(store(X)), np.count_nonzero(X, axis=0))
    matrix = sp.csr_array(X)
    matrix.data[:5] = 0  # stored zeros
    np.testing.assert_array_equal(arrays.detected(matrix), np.count_nonzero(matrix.toarray(), axis=0))


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS))
def test_blocks_are_small_and_cover_every_row_once(store, kind):
    rows = [rows for rows, block in arrays.row_blocks(store(X)) if block.shape == (rows.stop - rows.start, 40)]
    assert [r.start for r in rows] == [0, *(r.stop for r in rows[:-1])]
    assert rows[-1].stop == 150
    assert len(rows) > 1 or kind == "dask of CSR, one chunk"


@pytest.mark.parametrize("kind", kinds())
def test_thin_is_a_matter_of_the_share_of_non_zeros(store, kind):
    sparse = "CSR" in kind or "cs" in kind or "coo" in kind
    thin = np.where(RNG.random(X.shape) < 0.05, 1.0, 0.0)
    assert not arrays.is_thin(stored(store, X))
    assert arrays.is_thin(stored(store, thin)) == (sparse and kind not in DEVICE)


def test_what_is_in_memory():
    assert {k for k in (*KINDS, *BLOCKS) if arrays.in_memory(EVERY[k](X))} == set(KINDS)
    assert not arrays.in_memory(device.OnDevice(Stream.of(X)))
    assert arrays.in_memory(device.OnDevice(X))


def test_cells_of_a_stream_keep_their_order(small_blocks):
    stream = Stream.of(X)[np.array([1, 3, 74])]
    np.testing.assert_array_equal(arrays.times(stream, np.eye(40)), X[[1, 3, 74]])
    some = np.arange(40) % 7 == 1
    np.testing.assert_array_equal(arrays.times(stream[:, some], np.eye(6)), X[[1, 3, 74]][:, some])
    with pytest.raises(ValueError, match="order"):
        stream[np.array([2, 0])]
