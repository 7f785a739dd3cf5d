"""From genes to signed weights and links, in one call."""

import numpy as np
import pandas as pd
import pytest

from flda.circuits import signed_wiring, system_recovery

from circuit_problems import TYPES, signed_problem


def test_signed_wiring_from_end_to_end():
    cells, edges, activity, responses, truth = signed_problem()
    found = signed_wiring(cells, edges, activity, responses, groupby="type", layer="counts")
    assert found.signs.loc[truth.index, "sign"].tolist() == [1, 1, -1, -1, 1, -1]
    assert found.mask.counts() == {"positive": 24, "negative": 24, "unknown": 0}
    recovered = found.weights.loc[truth.index, TYPES]
    assert (recovered.to_numpy() * np.sign(found.mask.values.loc[truth.index, TYPES].to_numpy()) >= 0).all()
    assert system_recovery(recovered.to_numpy(), truth.to_numpy()) > 0.97
    assert (found.fits["r2_test"] > 0.9).all()
    first = found.links.iloc[0]
    assert (first["direction"], first["axis"], first["n_distinct"]) == ("inputs", "dendrite_1", 35)
    assert first["pval"] == pytest.approx(1 / 35)
    assert first["share"] > 0.9


def test_signed_wiring_of_units_by_column_and_of_unknown_sign():
    cells, edges, activity, _, truth = signed_problem()
    doubled = pd.concat([activity * 0.4, activity * 0.6], axis=1)
    doubled += 0.05 * np.random.default_rng(0).normal(size=doubled.shape)
    doubled.columns = pd.MultiIndex.from_arrays([[*activity.columns] * 2, np.repeat([0, 1], 6)])
    response = pd.DataFrame({t: doubled.T.groupby(level=0).sum().T @ truth[t] for t in TYPES})
    cells.obs["type"] = cells.obs["type"].replace("Mi9", "Xx")  # no cells: its sign is unknown, and stays free
    found = signed_wiring(cells, edges, doubled, response, groupby="type", layer="counts")
    assert (found.fits["n_units"] == 12).all()
    assert (found.fits["n_free"] == 2).all()
    assert (found.weights.loc["Mi9", TYPES[:4]] < -30).all()  # two units of about -22 each
    fixed = signed_wiring(
        cells, edges, doubled, response, groupby="type", layer="counts", overrides={("Mi9", t): 1.0 for t in TYPES}
    )
    assert (fixed.weights.loc["Mi9"] >= 0).all()
    assert (fixed.fits["r2_test"][TYPES[:4]] < found.fits["r2_test"][TYPES[:4]]).all()  # a wrong sign costs prediction


def test_signed_wiring_bad_input():
    cells, edges, activity, responses, _ = signed_problem(n_samples=30)
    with pytest.raises(ValueError, match=r"activity.*29.*responses.*30"):
        signed_wiring(cells, edges, activity[:-1], responses, groupby="type")
    with pytest.raises(ValueError, match="'T5d'"):
        signed_wiring(cells, edges[edges["post"] != "T5d"], activity, responses, groupby="type")
    with pytest.raises(ValueError, match="responses"):
        signed_wiring(cells, edges, activity, responses.where(responses > responses.min()), groupby="type")
    with pytest.raises(ValueError, match="8 samples"):
        signed_wiring(cells, edges, activity[:8], responses[:8], groupby="type", layer="counts")
