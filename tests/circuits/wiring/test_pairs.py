"""Scores of predicted connections, and the checks of pairs that all wiring models share."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from flda.circuits.wiring import (
    BilinearModel,
    SpatialConnectomeModel,
    cross_validate,
    differential_expression,
)
from flda.circuits.wiring._pairs import agreement

from circuit_problems import undirected


def test_agreement_is_the_auc_or_the_correlation():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 2, 200).astype(float), rng.integers(0, 20, 200).astype(float)
    weights = rng.integers(0, 4, 200).astype(float)
    assert agreement(predicted, truth) == pytest.approx(roc_auc_score(truth, predicted))
    assert agreement(predicted, truth, weights) == pytest.approx(roc_auc_score(truth, predicted, sample_weight=weights))
    values = rng.normal(size=200)
    assert agreement(predicted, values) == pytest.approx(np.corrcoef(predicted, values)[0, 1])
    repeated = np.repeat(np.arange(200), weights.astype(int))
    assert agreement(predicted, values, weights) == pytest.approx(
        np.corrcoef(predicted[repeated], values[repeated])[0, 1]
    )
    assert np.isnan(agreement(predicted, np.ones(200)))


@pytest.mark.parametrize("model", [SpatialConnectomeModel(1.0), BilinearModel(1)])
def test_bad_input(model):
    X, B, C = undirected()
    skew = B.copy()
    i, j = np.argwhere(B > 0)[0]
    skew[i, j] = 0
    with pytest.raises(ValueError, match=rf"B .*row {i}, column {j}.*directed=True"):
        model.fit(X, skew, contact=C)
    clone(model).set_params(directed=True).fit(X, skew, contact=C)
    with pytest.raises(ValueError, match="contact"):
        model.fit(X, B, contact=np.where(B > 0, 0, C))
    with pytest.raises(ValueError, match=r"X .*row 2, column 1"):
        model.fit(np.where(np.arange(80).reshape(20, 4) == 9, np.nan, X), B, contact=C)
    with pytest.raises(ValueError, match=r"B .*\(3, 3\)"):
        model.fit(X, B[:3, :3])
    with pytest.raises(ValueError, match="B is 0"):
        model.fit(X, 0 * B, contact=C)
    with pytest.raises(ValueError, match="contact"):
        model.fit(X, B, contact=0 * C)
    with pytest.raises(ValueError, match="contact"):
        model.fit(X, B, contact=-C)
    names = [f"n{k}" for k in range(20)]
    genes, links = pd.DataFrame(X, index=names), pd.DataFrame(B, names, names)
    with pytest.raises(ValueError, match="'n3'"):
        model.fit(genes.drop("n3"), links)
    with pytest.raises(ValueError, match=r"'n1'.* X"):
        model.fit(genes.rename(index={"n0": "n1"}), links)
    with pytest.raises(ValueError, match=r"'n1'.* B"):
        model.fit(genes, links.rename(index={"n0": "n1"}))
    with pytest.raises(ValueError, match="alpha=-1"):
        clone(model).set_params(alpha=-1.0).fit(X, B, contact=C)


def test_bad_options():
    X, B, C = undirected()
    with pytest.raises(ValueError, match="alpha='auto'"):
        SpatialConnectomeModel("auto").fit(X, B, contact=C)
    with pytest.raises(ValueError, match=r"signs.*\(4,\)"):
        SpatialConnectomeModel(1.0, signs=np.ones(4)).fit(X, B, contact=C)
    lopsided = np.full((4, 4), np.nan)
    lopsided[0, 1] = 1
    with pytest.raises(ValueError, match="signs"):
        SpatialConnectomeModel(1.0, signs=lopsided).fit(X, B, contact=C)
    with pytest.raises(ValueError, match="n_components=5"):
        BilinearModel(5).fit(X, B, contact=C)
    with pytest.raises(ValueError, match="norm='l1'"):
        BilinearModel(norm="l1").fit(X, B, contact=C)
    with pytest.raises(ValueError, match=r"20 neurons.*30 folds"):
        cross_validate(SpatialConnectomeModel(1.0), X, B, contact=C, n_folds=30)
    with pytest.raises(ValueError, match=r"classes.*20.* 3 "):
        cross_validate(SpatialConnectomeModel(1.0), X, B, contact=C, classes=[1, 2, 3])
    with pytest.raises(ValueError, match="0 or 1"):
        differential_expression(X, 2 * B, contact=C)
