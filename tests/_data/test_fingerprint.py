import numpy as np
import pytest

from flda._data.fingerprint import fingerprint

from array_kinds import BLOCKS, KINDS, SINGLE, kinds

X = np.round(np.random.default_rng(0).normal(size=(2_100, 7)) * (np.arange(7) % 3 > 0), 2)
NAMES = [["a", "b"], ["1", "2"]]
EXPECTED = fingerprint(X, NAMES)


@pytest.mark.parametrize("kind", kinds(KINDS, BLOCKS, but=SINGLE))
def test_every_kind_of_array_has_the_hash_of_its_values(store, kind):
    """Matrices of every storage, read in blocks of whatever size."""
    assert fingerprint(store(X), NAMES) == EXPECTED


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
    assert fingerprint(Y, names) != EXPECTED
