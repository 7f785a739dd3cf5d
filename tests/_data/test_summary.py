"""What one pass over a matrix says about its values, whatever the matrix is stored as."""

import numpy as np
import pytest
import scipy.sparse as sp

from flda._data.device import wrap
from flda._data.summary import NonFiniteError, summarise

from array_kinds import BLOCKS, KINDS, SINGLE, kinds

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(150, 40)) * (RNG.random((150, 40)) < 0.4), 1)
CODES = RNG.integers(3, size=150)


def tolerance(kind):
    return 1e-5 if kind in SINGLE else 1e-12


@pytest.mark.parametrize("kind", kinds())
def test_one_pass_gives_sums_and_squares(store, kind):
    found = summarise(wrap(store(X)), CODES, 3)
    np.testing.assert_allclose(found.sums, [X[c == CODES].sum(axis=0) for c in range(3)], atol=100 * tolerance(kind))
    np.testing.assert_allclose(
        found.squares, [np.sum(X[c == CODES] ** 2, axis=0) for c in range(3)], rtol=tolerance(kind)
    )
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
    assert summarise(wrap(store(values)), CODES, 3).counts_like is expected


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool])
def test_counts_of_integer_types(dtype):
    counts = np.abs(np.round(3 * X)).astype(dtype)
    for matrix in (counts, sp.csr_array(counts)):
        assert summarise(matrix, CODES, 3).counts_like is (dtype is not bool)


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_no_number_is_named(store, kind, value):
    bad = X.copy()
    bad[71, 4] = value
    bad[71, 9] = bad[140, 0] = np.nan
    with pytest.raises(NonFiniteError, match="gene 'g4'") as error:
        summarise(wrap(store(bad)), CODES, 3, names=[f"g{j}" for j in range(40)])
    assert (error.value.row, error.value.column) == (71, 4)
    np.testing.assert_equal(error.value.value, value)


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS))
def test_a_sum_that_overflows_is_no_bad_value(store, kind):
    """Squares, or a sum, beyond what a float holds: every value is a number all the same."""
    large = X.copy()
    large[:2, 3] = 3e38 if kind in SINGLE else 1.7e308
    with np.errstate(over="ignore"):
        summarise(store(large), np.zeros(150, dtype=int), 1)
