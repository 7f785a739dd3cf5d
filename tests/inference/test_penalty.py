import numpy as np
import pandas as pd
import pytest

from flda import FLDA
from flda.inference import certify, choose_penalty


@pytest.fixture(scope="module")
def mixed():
    """Genes of mixed selectivity: without a penalty axes of A show B."""
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=(600, 2))
    y = pd.DataFrame(codes.astype(str), columns=["A", "B"])
    X = rng.normal(size=(600, 40))
    X[:, :20] += 0.3 * (2 * codes[:, [0]] - 1) + rng.choice([-0.6, 0.6, 0.9], 20) * (2 * codes[:, [1]] - 1)
    return X, y


def test_a_lower_limit_on_crosstalk_asks_for_a_larger_penalty(mixed):
    X, y = mixed
    loose, table = choose_penalty(FLDA(shrinkage=0.2), X, y, crosstalk=0.5, penalties=[0, 0.1, 1, 100])
    tight, _ = choose_penalty(FLDA(shrinkage=0.2), X, y, crosstalk=0.01, penalties=[0, 0.1, 1, 100])
    sums = table.groupby(["effect", "penalty"])[["snr", "crosstalk"]].sum()
    ratio = sums["crosstalk"] / sums["snr"]
    assert ratio["A", 0.0] > 0.5 >= ratio["A", loose["A"]]
    assert tight["A"] > loose["A"] > 0
    assert ratio["A", tight["A"]] < ratio["A", loose["A"]]


def test_the_table_holds_the_certificate_of_every_penalty(mixed):
    X, y = mixed
    _, table = choose_penalty(FLDA(shrinkage=0.2, penalty=7.0), X, y, penalties=[1, np.inf], n_folds=3)
    assert table["penalty"].unique().tolist() == [1, np.inf]
    for penalty, part in table.groupby("penalty"):
        expected = certify(FLDA(shrinkage=0.2, penalty=penalty), X, y, n_folds=3)
        pd.testing.assert_frame_equal(part.drop(columns="penalty").reset_index(drop=True), expected)


@pytest.mark.parametrize(
    ("snr", "crosstalk", "expected"),
    [
        ([-1.0, 1.0, 1.0], [0.05, 0.09, 0.01], 1.0),  # without held-out signal no penalty is within the limit
        ([1.0, 1.0, 1.0], [0.3, 0.2, 0.4], 1.0),  # none is: the least ratio
        ([2.0, 1.0, 1.0], [0.19, 0.05, 0.0], 0.1),  # the smallest of those that are
        ([1.0, 1.0, -1.0], [0.5, 0.4, -9.0], 1.0),
    ],
)
def test_the_rule(mixed, monkeypatch, snr, crosstalk, expected):
    table = pd.DataFrame({"effect": "A", "genes": ["0.1", "1.0", "10.0"], "snr": snr, "crosstalk": crosstalk})
    monkeypatch.setattr("flda.inference._penalty.certify_together", lambda *_, **__: table)
    chosen, _ = choose_penalty(FLDA(), *mixed, crosstalk=0.1, penalties=[0.1, 1, 10])
    assert chosen == {"A": expected}
