"""What one pass over a matrix gives, whatever the matrix is stored as."""

import numpy as np
import pytest
import scipy.sparse as sp

from flda._data import arrays, device
from flda._data.arrays import NonFiniteError, Stream

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
def test_one_pass_gives_sums_and_squares(store, kind):
    found = arrays.summarise(stored(store, X), CODES, 3)
    np.testing.assert_allclose(found.sums, [X[c == CODES].sum(axis=0) for c in range(3)], atol=100 * tolerance(kind))
    np.testing.assert_allclose(found.squares, [np.sum(X[c == CODES] ** 2) for c in range(3)], rtol=tolerance(kind))
    assert type(found.sums) is np.ndarray


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.abs(np.round(3 * X)), True),
        (np.abs(X), False),  # fractions
        (np.round(3 * X), False),  # negative
        ((X > 0) * 1.0, False),  # whether a gene was seen
    ],
    ids=["counts", "fractions", "negative", "zeros and ones"],
)
def test_raw_counts_are_recognised(store, kind, values, expected):
    assert arrays.summarise(stored(store, values), CODES, 3).counts_like is expected


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool])
def test_counts_of_integer_types(dtype):
    counts = np.abs(np.round(3 * X)).astype(dtype)
    for matrix in (counts, sp.csr_array(counts)):
        assert arrays.summarise(matrix, CODES, 3).counts_like is (dtype is not bool)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_no_number_is_named(store, kind, value):
    bad = X.copy()
    bad[71, 4] = value
    bad[71, 9] = bad[140, 0] = np.nan
    with pytest.raises(NonFiniteError, match="gene 'g4'") as error:
        arrays.summarise(stored(store, bad), CODES, 3, names=[f"g{j}" for j in range(40)])
    assert (error.value.row, error.value.column) == (71, 4)
    np.testing.assert_equal(error.value.value, value)


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS))
def test_a_sum_that_overflows_is_no_bad_value(store, kind):
    """Squares, or a sum, beyond what a float holds: every value is a number all the same."""
    large = X.copy()
    large[:2, 3] = 3e38 if kind in SINGLE else 1.7e308
    with np.errstate(over="ignore"):
        arrays.summarise(store(large), np.zeros(150, dtype=int), 1)


@pytest.mark.parametrize("kind", kinds())
def test_products_with_thin_matrices(store, kind):
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
