"""The comparison with an earlier version finds what differs, and says so by its exit status."""

import numpy as np
import pytest
from compare_versions import Expected, compare, explain, report, rows
from version_scenarios import FIELDS, Numbers

BASE = {
    "fit|components_": np.array([[3.0, -1.0], [0.5, np.nan]]),
    "fit|axes_.axis": np.array(["a_1", "b_1"]),
    "fit|axes_.n_rows": np.array([2]),
}


def found(**changes):
    current = {**BASE, **{f"fit|{name}": value for name, value in changes.items()}}
    return {one.name: one for one in compare(BASE, {k: v for k, v in current.items() if v is not None})}


def test_a_version_equals_itself(capsys):
    assert not any(one.size for one in found().values())
    assert report(list(found().values()), {}, {})
    assert "unexpected" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (BASE["fit|components_"] * [[1 + 1e-9, 1], [1, 1]], "value"),
        (BASE["fit|components_"] * [[-1, 1], [1, 1]], "sign only"),
        (np.nan_to_num(BASE["fit|components_"]), "1 of 4 finite in one only"),
        (BASE["fit|components_"][:1], "shape (2, 2) -> (1, 2)"),
        (None, "missing"),
    ],
)
def test_numbers_that_differ(change, kind, capsys):
    differences = found(components_=change)
    one = differences["fit|components_"]
    assert one.kind == kind
    assert one.matters
    assert not report(list(differences.values()), {}, {})
    assert "fit|components_" in capsys.readouterr().out.partition("unexpected")[2]


def test_rounding_new_arrays_and_text():
    assert not found(components_=BASE["fit|components_"] * (1 + 1e-12))["fit|components_"].matters
    assert not found(added=np.ones(2))["fit|added"].matters
    assert found(**{"path.raises": np.array(["ValueError"])})["fit|path.raises"].matters
    assert found(**{"axes_.axis": np.array(["a_1", "c_1"])})["fit|axes_.axis"].matters


def test_an_expected_difference_must_be_there_and_be_no_larger():
    expected = {"defect": Expected(("fit|comp*",), "Components were wrong.", at_most=1e-3)}
    small = found(components_=BASE["fit|components_"] * (1 + 1e-4)).values()
    explained, unexpected, stale = explain(small, expected)
    assert len(explained["defect"]) == 1
    assert not unexpected
    assert not stale
    assert [one.name for one in explain(found(components_=None).values(), expected)[1]] == ["fit|components_"]
    assert explain(found().values(), expected)[2] == ["defect: fit|comp*"]
    assert not report(list(found().values()), expected, {})


def test_a_table_is_one_row():
    names = [(scenario, quantity, n) for scenario, quantity, _, n in rows(found().values())]
    assert names == [("fit", "components_", 1), ("fit", "axes_", 2)]


def test_names_of_the_base_and_errors_are_kept():
    out = Numbers()
    out.scenario = "s"
    out.keep("table", {"n_perms": 9, "null": np.zeros(3)})
    assert out.add("fails", lambda: 1 / 0) is None
    assert FIELDS["n_perms"] == "n_resamples"
    assert out.arrays["s|table.n_resamples"] == 9
    assert out.arrays["s|fails.raises"] == ["ZeroDivisionError"]
    assert "division" in out.messages["s|fails"]
