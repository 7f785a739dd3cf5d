import anndata as ad
import numpy as np
import pandas as pd
import pytest

from flda._adata.storable import escaped, plain, storable, unescaped

NAMES = ["", ".", "..", "_index", "a/b", "a%2Fb", "50 %", "%", "c:d", "äö", "%5Findex", "a_b"]


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_every_value_comes_back_from_a_file(tmp_path, suffix):
    value = {
        "table": pd.DataFrame(
            {
                "a/b": pd.Categorical([1.5, 2.0, 1.5]),
                "_index": ["x", "", "y"],
                "50 %": [1, 2, 3],
                "flag": [True, False, True],
                "number": [np.nan, 1.0, np.inf],
            },
            index=[7, 8, 9],
        ),
        "named rows": pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index(["a/b", "1"], name="axis")),
        "by name": {name: i for i, name in enumerate(NAMES)},
        "list": ["a/b", "c"],
        "empty": [],
        "nothing": None,
        "pair": ("a", "b"),
        "number": np.float32(0.5),
        "matrix": np.arange(6.0).reshape(2, 3),
    }
    adata = ad.AnnData(np.ones((2, 2), np.float32), uns={"k": storable(value)})
    getattr(adata, f"write_{suffix}")(tmp_path / f"x.{suffix}")
    for stored in (adata.uns["k"], getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}").uns["k"]):
        back = plain(stored)
        table = value["table"].assign(**{"a/b": pd.Categorical(["1.5", "2.0", "1.5"])}).reset_index(drop=True)
        pd.testing.assert_frame_equal(back.pop("table"), table)
        pd.testing.assert_frame_equal(back.pop("named rows"), value["named rows"])
        np.testing.assert_array_equal(back.pop("matrix"), value["matrix"])
        assert back == {
            "by name": value["by name"], "list": ["a/b", "c"], "empty": [], "nothing": None, "pair": ["a", "b"],
            "number": 0.5,
        }  # fmt: skip


def test_names_are_escaped_to_different_names_and_back():
    assert len({escaped(name) for name in NAMES}) == len(NAMES)
    assert [unescaped(escaped(name)) for name in NAMES] == NAMES
    assert not any("/" in escaped(name) or escaped(name) in ("", ".", "..", "_index") for name in NAMES)


def test_text_stands_for_levels_and_objects_of_other_types():
    table = storable(pd.DataFrame({"level": pd.Categorical([1, "1", None]), "object": [1, None, "x"]}))
    assert table["level"].tolist() == ["1", "1", ""]
    assert table["object"].tolist() == ["1", "", "x"]


def test_what_is_stored_is_a_copy():
    table, matrix = pd.DataFrame({"x": [1, 2]}), np.ones((2, 2))
    stored = storable({"table": table, "matrix": matrix})
    table.loc[0, "x"], matrix[0, 0] = 9, 9.0
    assert stored["table"]["x"].tolist() == [1, 2]
    assert stored["matrix"][0, 0] == 1
    back = plain(stored)
    back["table"].loc[0, "x"] = 9
    assert stored["table"]["x"].tolist() == [1, 2]


@pytest.mark.parametrize("value", [np.random.default_rng(0), {1, 2}, object(), lambda: None])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match=type(value).__name__):
        storable({"a": [value]})
