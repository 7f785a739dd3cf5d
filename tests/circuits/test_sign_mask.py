"""Masks of signs over the edges of a wiring diagram."""

import numpy as np
import pandas as pd
import pytest

from flda import FLDAWarning
from flda.circuits import SignMask

EDGES = pd.DataFrame({"pre": ["Mi1", "C3", "C3", "R8"], "post": ["T4a", "L1", "T4a", "Mi1"]})


def test_mask_follows_types_then_edges_then_overrides():
    signs = pd.Series({"Mi1": 1.0, "C3": -1.0})
    mask = SignMask.from_types(signs, EDGES, overrides={("C3", "L1"): 1})
    assert mask.values.loc["C3"].to_dict() == {"T4a": -1.0, "L1": 1.0, "Mi1": 0.0}
    assert np.isnan(mask.values.loc["R8", "Mi1"])
    assert mask.values.loc["Mi1", "L1"] == 0
    assert mask.counts() == {"positive": 2, "negative": 1, "unknown": 1}
    with_column = SignMask.from_types(signs, EDGES.assign(sign=[np.nan, 1, np.nan, np.nan]))
    pd.testing.assert_frame_equal(mask.values, with_column.values)
    # a repeated edge with one stated sign keeps it
    twice = pd.concat([EDGES, EDGES.assign(sign=[1, 1, -1, -1])])
    assert SignMask.from_types({}, twice).values.loc["R8", "Mi1"] == -1


def test_flip_reverses_the_share_of_known_signs():
    mask = SignMask(pd.DataFrame(np.where(np.eye(20) == 1, np.nan, 1.0)))
    flipped = mask.flip(0.25, random_state=0)
    assert flipped.counts() == {"positive": 285, "negative": 95, "unknown": 20}
    pd.testing.assert_frame_equal(flipped.values, mask.flip(0.25, random_state=0).values)
    with pytest.raises(ValueError, match="share=2"):
        mask.flip(2)


def test_bad_masks():
    with pytest.raises(ValueError, match="C3 -> L1"):
        SignMask.from_types({}, pd.DataFrame({"pre": ["C3", "C3"], "post": ["L1", "L1"], "sign": [1, -1]}))
    with pytest.raises(ValueError, match="Mi1 -> L1"):
        SignMask.from_types({"Mi1": 1}, EDGES, overrides={("Mi1", "L1"): 1})
    with pytest.raises(ValueError, match=r"entry \(0, 0\) is 3"):
        SignMask(pd.DataFrame([[3]]))
    with pytest.raises(ValueError, match=r"presynaptic.*'a'"):
        SignMask(pd.DataFrame([[1], [1]], index=["a", "a"]))
    with pytest.raises(ValueError, match="post"):
        SignMask.from_types({}, pd.DataFrame({"pre": ["a"]}))


def test_names_are_text_and_untyped_partners_are_left_out():
    ids = SignMask.from_types({"1": 1.0, "2": -1.0}, pd.DataFrame({"pre": [1, 2], "post": [9, 9]}))
    assert ids.counts() == {"positive": 1, "negative": 1, "unknown": 0}
    with pytest.warns(FLDAWarning, match="2 of 3"):
        mask = SignMask.from_types({"Mi1": 1.0}, pd.DataFrame({"pre": ["Mi1", None, ""], "post": "T4a"}))
    assert mask.values.index.tolist() == ["Mi1"]
