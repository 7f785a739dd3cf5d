import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp

from flda._data.arrays import Stream
from flda._data.fingerprint import fingerprint

from array_kinds import EXACT, KINDS

X = np.round(np.random.default_rng(0).normal(size=(2_100, 7)) * (np.arange(7) % 3 > 0), 2)
NAMES = [["a", "b"], ["1", "2"]]


@pytest.mark.parametrize("kind", EXACT)
def test_every_kind_of_array_has_the_hash_of_its_values(kind):
    assert fingerprint(KINDS[kind](X), NAMES) == fingerprint(X, NAMES)


def test_blocks_do_not_matter(monkeypatch):
    expected = fingerprint(X, NAMES)
    chunked = da.from_array(X, chunks=(333, 4))
    assert fingerprint(chunked, NAMES) == expected
    assert fingerprint(chunked.map_blocks(sp.csr_array, meta=sp.csr_array((0, 0))).rechunk((500, 7)), NAMES) == expected
    monkeypatch.setattr("flda._data.arrays.BLOCK_BYTES", 8 * 7 * 100)
    assert fingerprint(X, NAMES) == expected
    assert fingerprint(Stream.of(sp.csr_array(X)), NAMES) == expected


@pytest.mark.parametrize("change", ["value", "place", "row", "name", "split"])
def test_what_changes_the_hash(change):
    Y, names = X.copy(), [list(words) for words in NAMES]
    if change == "value":
        Y[3, 1] = np.nextafter(Y[3, 1], 9)
    elif change == "place":
        Y[0, [1, 2]] = Y[0, [2, 1]]
    elif change == "row":
        Y[[4, 5]] = Y[[5, 4]]
    elif change == "name":
        names[0][1] = "c"
    else:
        names = [["ab"], ["1", "2"]]
    assert fingerprint(Y, names) != fingerprint(X, NAMES)
