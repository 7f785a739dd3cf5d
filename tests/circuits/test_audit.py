"""Signs of a connectome compared with measured ones."""

import numpy as np
import pandas as pd
import pytest

from flda import datasets
from flda.circuits import audit_signs, signs_from_transmitters


def test_audit():
    edges = pd.DataFrame(
        [
            ("A", "x", 1, 5, True),
            ("A", "x", 1, 5, True),
            ("B", "x", -1, 4, True),
            ("C", "x", 1, 3, True),
            ("D", "x", 1, 2, False),
            ("E(1)", "x", -1, 1, True),
        ],
        columns=["pre", "post", "sign", "n_synapses", "referenced"],
    )
    table = audit_signs(edges, {"A": 1.0, "B": 1.0, "C": np.nan, "E": -1.0}, names={"E(1)": "E"})
    assert table["verdict"].tolist() == ["agree", "conflict", "reference only", "unsupported", "agree"]
    assert table["n_synapses"].tolist() == [10, 4, 3, 2, 1]
    with pytest.raises(ValueError, match="A -> x"):
        audit_signs(edges.assign(sign=[1, -1, 1, 1, 1, 1]), {})
    with pytest.raises(ValueError, match=r"edges.* 2;"):
        audit_signs(edges.assign(sign=2), {})
    with pytest.raises(ValueError, match="n_synapses"):
        audit_signs(edges.drop(columns="n_synapses"), {})


def test_names_of_every_kind():
    """Categories invent no pairs, numbers match text, edges without a name or a sign are no conflicts."""
    edges = pd.DataFrame({"pre": [1, 2, np.nan, 3], "post": [9, 9, 9, 9], "sign": [1, -1, 1, np.nan], "n_synapses": 5})
    wanted = ["agree", "conflict", "no sign"]
    assert audit_signs(edges, {"1": 1.0, "2": 1.0, "3": 1.0})["verdict"].tolist() == wanted
    text = edges.dropna(subset="pre").astype({"pre": int}).astype({"pre": str, "post": str})
    categories = text.astype({"pre": "category", "post": "category"})
    assert audit_signs(categories, {1: 1.0, 2: 1.0, 3: 1.0})["verdict"].tolist() == wanted


@pytest.mark.data
def test_audit_of_flyvis():
    edges = datasets.flyvis_connectome()
    table = audit_signs(edges, signs_from_transmitters(datasets.flywire_optic_types()))
    assert len(table) == 605
    assert (table["sign"] == -1).sum() == 228
    assert table["referenced"].sum() == 338
    assert table["verdict"].value_counts()["agree"] > table["verdict"].value_counts()["conflict"]
