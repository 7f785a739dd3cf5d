"""The record of results: what is read, written, replaced and left alone."""

import anndata as ad
import joblib
import numpy as np
import pandas as pd
import pytest

import flda
from flda._adata.record import SLOTS, Record
from flda._adata.results import Step, write

FACTORS = ["dendrite", "axon"]
CONTRASTS = {"dendrite in a": ({"dendrite": "T5", "axon": "a"}, {"dendrite": "T4", "axon": "a"})}
FIT_FIELDS = {name for name, slot in SLOTS.items() if slot.call == "flda.tl.flda"}


def wiring(adata):
    types = list(adata.obs["subtype"].cat.categories)
    table = pd.DataFrame(0.0, index=["Mi1", "Tm9"], columns=types)
    table.loc["Mi1", types[:4]], table.loc["Tm9", types[4:]] = 60.0, 50.0
    return table


STEPS = {
    "rank_genes": lambda a, **k: flda.tl.rank_genes(a, n_genes=3, **k),
    "panel": lambda a, **k: flda.tl.panel(a, 6, **k),
    "certify": lambda a, **k: flda.tl.certify(a, n_folds=2, **k),
    "effect_tests": lambda a, **k: flda.tl.effect_tests(a, n_resamples=9, **k),
    "stability": lambda a, **k: flda.tl.stability(a, n_resamples=2, n_bootstraps=3, **k),
    "gene_sets": lambda a, **k: flda.tl.gene_sets(
        a, pd.DataFrame({"source": "first", "target": a.var_names[:6]}), n_resamples=9, **k
    ),
    "scale_check": lambda a, **k: flda.tl.scale_check(a, n_resamples=9, **k),
    "path": lambda a, **k: flda.tl.path(a, n_genes=[2, 3], n_folds=2, **k),
    "choose_penalty": lambda a, **k: flda.tl.choose_penalty(a, penalties=[1, 10], n_folds=2, **k),
    "counterfactual": lambda a, **k: flda.tl.counterfactual(a, {"dendrite": "T5"}, **k),
    "certify_counterfactual": lambda a, **k: flda.tl.certify_counterfactual(a, {"dendrite": "T5"}, **k),
    "held_out_scores": lambda a, **k: flda.tl.held_out_scores(a, n_folds=2, **k),
    "link_axes": lambda a: flda.circuits.link_axes(a, wiring(a), "subtype", directions="inputs", n_resamples=9),
}
WITH_COPY = [name for name in STEPS if name != "link_axes"]


@pytest.fixture(scope="module")
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=200, n_vars=60)
    flda.tl.flda(adata, FACTORS, contrasts=CONTRASTS, shrinkage=0.5)
    return adata


@pytest.fixture(scope="module")
def complete(fitted):
    """With the results of every step."""
    adata = fitted.copy()
    for step in STEPS.values():
        step(adata)
    write(adata, "flda", warned={"step": ["one", "two"]})
    return adata


@pytest.fixture
def adata(complete):
    return complete.copy()


def contents(adata):
    """A hash of all that an AnnData holds."""
    X = adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X
    return joblib.hash((X, adata.obs, adata.var, dict(adata.uns), dict(adata.obsm), dict(adata.varm)))


def assert_equal(a, b):
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, check_dtype=False, check_index_type=False)
    elif isinstance(a, pd.Series):
        pd.testing.assert_series_equal(a, b, check_dtype=False)
    elif isinstance(a, dict):
        assert set(a) == set(b)
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def test_the_steps_of_this_file_write_every_field(complete):
    assert [name for name in SLOTS if name not in Record(complete)] == []


@pytest.mark.parametrize("field", sorted(set(SLOTS) - FIT_FIELDS))
def test_a_missing_field_names_its_slot_and_the_call_to_run(fitted, field):
    with pytest.raises(ValueError, match="run ") as error:
        getattr(Record(fitted), field)
    assert SLOTS[field].call in str(error.value)
    assert SLOTS[field].spelled("flda") in str(error.value)
    assert field not in Record(fitted)


@pytest.mark.parametrize("field", sorted(FIT_FIELDS - {"params", "axes", "fit"}))
def test_half_a_fit_asks_for_a_new_one(fitted, field):
    adata = fitted.copy()
    SLOTS[field].drop(adata, "flda")
    with pytest.raises(ValueError, match=r"flda\.tl\.flda"):
        getattr(Record(adata), field)


def test_results_that_travelled_without_the_genes_ask_for_a_new_fit(fitted):
    joined = ad.concat([fitted[:100], fitted[100:]], uns_merge="first")  # which drops var and varm
    for call in (flda.get.rank_genes_df, flda.tl.rank_genes, flda.tl.certify, flda.pl.loadings, flda.report.render):
        with pytest.raises(ValueError, match=r"flda\.tl\.flda"):
            call(joined)


def test_no_fit_and_the_results_of_others_are_told_apart():
    adata = flda.datasets.t4t5_simulated(n_obs=100, n_vars=60)
    with pytest.raises(ValueError, match=r"'flda'.*flda\.tl\.flda"):
        Record(adata)
    adata.uns["flda"] = {"other": 1}
    with pytest.raises(ValueError, match=r"'flda'.*flda\.tl\.flda"):
        Record(adata)
    with pytest.raises(ValueError, match="key_added"):
        flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    assert adata.uns["flda"] == {"other": 1}
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, key_added="mine")
    assert adata.uns["flda"] == {"other": 1}


def test_values_by_gene_are_those_of_the_fit_by_name():
    adata = flda.datasets.t4t5_simulated(n_obs=200, n_vars=60)
    adata.var["use"] = np.arange(60) % 2 == 0
    flda.tl.flda(adata, FACTORS, shrinkage=0.5, mask_var="use")
    flda.tl.rank_genes(adata, n_genes=3, exclude=[adata.var_names[0]])
    record = Record(adata)
    names = adata.var_names[adata.var["use"]]
    assert record.gene_names.tolist() == names.tolist()
    for table in (
        record.loadings,
        record.F,
        record.within_sd,
        record.centre,
        record.candidates,
        record.sparse_loadings,
    ):
        assert table.index.tolist() == names.tolist()
    assert record.loadings.columns.tolist() == flda.get.axes_df(adata)["axis"].tolist()
    assert record.candidates.tolist() == [False] + [True] * 29
    turned = Record(adata[:, ::-1].copy())
    assert_equal(turned.loadings.loc[names], record.loadings)
    assert_equal(turned.candidates.loc[names], record.candidates)


def test_the_selection_follows_its_genes(fitted):
    adata = fitted.copy()
    adata.var["use"] = np.arange(60) < 12
    flda.tl.rank_genes(adata, n_genes=3, mask_var="use")
    turned = adata[:, ::-1].copy()
    flda.tl.stability(turned, n_resamples=4, n_bootstraps=0)
    selected = set(flda.get.stability_df(turned)["gene"])
    assert selected <= set(adata.var_names[:12])
    with pytest.raises(ValueError, match=r"60 genes.*40.*fit again"):
        flda.tl.stability(adata[:, :40].copy(), n_resamples=2, n_bootstraps=0)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_every_field_comes_back_from_a_file(complete, tmp_path, suffix):
    getattr(complete, f"write_{suffix}")(tmp_path / f"x.{suffix}")
    back = getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}")
    before, after = Record(complete), Record(back)
    for field in SLOTS:
        assert_equal(getattr(before, field), getattr(after, field))
    for name in ("params", "axis_names", "effects_with_axes"):
        assert type(getattr(before, name)) is type(getattr(after, name))
    assert isinstance(after.params["factors"], list)
    assert type(after.fit["n_cells"]) is int
    for step in STEPS.values():  # and the analysis goes on
        step(back)
    for field in ("certificate", "stability", "path", "tests"):
        assert_equal(getattr(before, field), getattr(Record(back), field))


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_names_with_slashes_and_percent_signs_survive(tmp_path, suffix):
    adata = flda.datasets.t4t5_simulated(n_obs=200, n_vars=60)
    factor = "a/b %"
    adata.obs[factor] = adata.obs["dendrite"].cat.rename_categories({"T4": "c/d", "T5": "T5"})
    flda.tl.flda(adata, [factor, "axon"], shrinkage=0.5, penalty={factor: 2.0, f"{factor}:axon": 3.0})
    flda.tl.rank_genes(adata, n_genes={factor: 3, "axon": 2, f"{factor}:axon": 2})
    flda.tl.certify(adata, n_folds=2)
    flda.tl.choose_penalty(adata, penalties=[1, 10], n_folds=2)
    labels = adata.obs.pop(factor)  # the column in obs is the user's, and no file can hold it
    getattr(adata, f"write_{suffix}")(tmp_path / f"x.{suffix}")
    back = getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}")
    back.obs[factor] = labels
    record = Record(back)
    assert record.params["penalty"] == {factor: 2.0, f"{factor}:axon": 3.0}
    assert record.selection["n_genes"] == {factor: 3, "axon": 2, f"{factor}:axon": 2}
    assert f"snr_{factor}" in record.certificate
    assert "mean_c/d" in record.gene_report
    assert set(record.design[factor]) == {"c/d", "T5"}
    assert set(record.penalties["chosen"]) == {factor, "axon", f"{factor}:axon"}
    before = flda.get.certificate_df(back)
    flda.tl.certify(back, n_folds=2)
    assert_equal(flda.get.certificate_df(back), before)
    assert [t.get_text() for t in flda.pl.certificate(back).get_xticklabels()] == [factor, "axon", f"{factor}:axon"]


@pytest.mark.parametrize("name", [*STEPS, "flda", "transform"])
def test_a_step_on_a_view_leaves_the_parent_as_it_is(complete, name):
    parent = complete.copy()
    before = contents(parent)
    view = parent[::-1]  # the same cells, which every step finds by name
    assert view.is_view
    if name == "flda":
        flda.tl.flda(view, "axon", shrinkage=0.3)
    elif name == "transform":
        flda.tl.transform(view, complete)
    else:
        STEPS[name](view)
    assert not view.is_view
    assert contents(parent) == before
    view.uns["flda"]["axes"].iloc[0, 0] = "changed"  # nothing is shared either
    view.uns["flda"]["params"]["factors"].append("changed")
    assert contents(parent) == before


@pytest.mark.parametrize("name", [*WITH_COPY, "flda", "transform"])
@pytest.mark.parametrize("view", [False, True])
def test_a_copy_leaves_the_input_as_it_is(complete, name, view):
    adata = complete.copy()
    before = contents(adata)
    given = adata[::-1] if view else adata
    if name == "flda":
        out = flda.tl.flda(given, "axon", shrinkage=0.3, copy=True)
    elif name == "transform":
        out = flda.tl.transform(given, complete, copy=True)
    else:
        out = STEPS[name](given, copy=True)
    assert isinstance(out, ad.AnnData)
    assert not out.is_view
    assert given.is_view == view
    assert contents(adata) == before


def test_a_new_fit_removes_all_results_of_the_one_before(adata):
    flda.tl.flda(adata, "dendrite", shrinkage=0.4, key_added="other")
    flda.tl.rank_genes(adata, n_genes=2, key="other", key_added="ranking of other")
    flda.tl.rank_genes(adata, n_genes=2, key_added="second")
    other = {
        name: joblib.hash(getattr(Record(adata, "other"), name)) for name in SLOTS if name in Record(adata, "other")
    }
    flda.tl.flda(adata, "axon", shrinkage=0.4)
    record = Record(adata)
    assert {name for name in SLOTS if name in record} == FIT_FIELDS - {"contrasts", "warned"}
    assert record.axis_names == ["axon_1", "axon_2", "axon_3"]
    assert set(adata.uns) & {"rank_genes_flda", "second"} == set()
    kept = [name for name in [*adata.obsm, *adata.varm, *adata.var] if "other" not in name]
    assert sorted(name for name in kept if "flda" in name) == [
        "X_flda", "flda", "flda_F", "flda_centre", "flda_discriminants", "flda_pattern", "flda_within_sd"
    ]  # fmt: skip
    assert "ranking of other" in adata.uns
    assert other == {name: joblib.hash(getattr(Record(adata, "other"), name)) for name in other}


def test_a_new_selection_removes_what_was_said_of_the_one_before(adata):
    flda.tl.rank_genes(adata, n_genes=4)
    record = Record(adata)
    assert {name for name in SLOTS if name not in record} == {"certificate", "stability"}
    assert record.selection == {"n_genes": 4, "mode": "axis", "key_added": "rank_genes_flda"}
    assert flda.get.rank_genes_df(adata)["frequency"].isna().all()


def test_there_is_one_selection_and_it_says_which_ranking_it_is_in(fitted):
    adata = fitted.copy()
    flda.tl.rank_genes(adata, n_genes=6, key_added="first")
    flda.tl.rank_genes(adata, n_genes=2, mode="marker", key_added="second")
    assert Record(adata).selection == {"n_genes": 2, "mode": "marker", "key_added": "second"}
    assert adata.uns["first"]["params"]["n_genes"] == 6
    assert adata.uns["second"]["params"]["mode"] == "marker"
    flda.tl.certify(adata, n_folds=2)
    selected = flda.get.certificate_df(adata).query("genes == 'selected'")
    assert selected["axis"].tolist() == Record(adata).sparse_axis_names
    page = flda.report.render(adata, figures=[])
    assert "<th>n_genes</th><td class=wrap>2</td>" in page
    assert "<th>n_genes</th><td class=wrap>6</td>" not in page


@pytest.mark.parametrize("order", [["effect_tests", "rank_genes"], ["rank_genes", "effect_tests"]])
def test_p_values_are_in_every_ranking_whatever_ran_first(fitted, order):
    adata = fitted.copy()
    for name in order:
        STEPS[name](adata)
    flda.tl.rank_genes(adata, effects="axon", n_genes=2, key_added="second")
    STEPS["effect_tests"](adata)
    check_rankings(adata, ["rank_genes_flda", "second"])


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_p_values_reach_a_ranking_that_comes_from_a_file(fitted, tmp_path, suffix):
    adata = fitted.copy()
    STEPS["rank_genes"](adata)
    getattr(adata, f"write_{suffix}")(tmp_path / f"x.{suffix}")
    back = getattr(ad, f"read_{suffix}")(tmp_path / f"x.{suffix}")
    STEPS["effect_tests"](back)
    STEPS["stability"](back)
    check_rankings(back, ["rank_genes_flda"])
    frequencies = back.uns["rank_genes_flda"]["frequencies"]["axon_1"]
    table = flda.get.rank_genes_df(back).query("axis == 'axon_1'")
    np.testing.assert_array_equal(frequencies, table["frequency"])
    getattr(back, f"write_{suffix}")(tmp_path / f"y.{suffix}")


def check_rankings(adata, names):
    pvals = Record(adata).pval
    effects = flda.get.axes_df(adata).set_index("axis")["effect"]
    table = flda.get.rank_genes_df(adata)
    F = Record(adata).F
    finite = [np.isfinite(F.at[g, e]) for g, e in zip(table["gene"], table["effect"], strict=True)]
    assert (table["pval"].notna() == finite).all()
    for name in names:
        ranking = adata.uns[name]
        for field in ranking["names"].dtype.names:
            expected = pvals.loc[ranking["names"][field], effects[field.replace(" x ", ":")]]
            np.testing.assert_array_equal(ranking["pvals"][field], expected)
            known = ranking["pvals"][field][np.isfinite(expected)]
            assert (ranking["pvals_adj"][field][np.isfinite(expected)] >= known - 1e-12).all()


def test_tests_of_some_effects_leave_the_others_without_p_values(fitted):
    adata = fitted.copy()
    STEPS["rank_genes"](adata)
    STEPS["effect_tests"](adata)
    flda.tl.effect_tests(adata, effects="axon", n_resamples=9)
    ranking = adata.uns["rank_genes_flda"]
    assert np.isfinite(ranking["pvals"]["axon_2"]).mean() > 0.9
    assert np.isnan(ranking["pvals"]["dendrite_1"]).all()


def test_frequencies_belong_to_the_ranking_of_their_selection(fitted):
    adata = fitted.copy()
    flda.tl.rank_genes(adata, n_genes=3, key_added="first")
    flda.tl.stability(adata, n_resamples=2, n_bootstraps=0)
    first = adata.uns["first"]["frequencies"].copy()
    flda.tl.rank_genes(adata, n_genes=2, key_added="second")
    assert "frequencies" not in adata.uns["second"]
    flda.tl.stability(adata, n_resamples=2, n_bootstraps=0)
    assert (adata.uns["first"]["frequencies"] == first).all()
    own = adata.uns["second"]["frequencies"]["axon_1"]
    np.testing.assert_array_equal(own, flda.get.rank_genes_df(adata).query("axis == 'axon_1'")["frequency"])


@pytest.mark.parametrize("key", ["", "t4/t5", 3, None])
def test_keys_that_no_file_can_hold_are_refused_before_the_work(fitted, key):
    adata = fitted.copy()
    before = contents(adata)
    with pytest.raises(ValueError, match=repr(key)):
        flda.tl.flda(adata, FACTORS, shrinkage=0.5, key_added=key)
    with pytest.raises(ValueError, match=repr(key)):
        flda.tl.rank_genes(adata, key_added=key)
    assert contents(adata) == before


def test_keys_that_would_replace_other_results_are_refused(complete):
    adata = complete.copy()
    before = contents(adata)
    with pytest.raises(ValueError, match=r"'flda_sparse'.*varm\['flda_sparse'\].*'flda'"):
        flda.tl.flda(adata, "axon", shrinkage=0.5, key_added="flda_sparse")
    with pytest.raises(ValueError, match="'flda'"):
        flda.tl.rank_genes(adata, n_genes=3, key_added="flda")
    assert contents(adata) == before


@pytest.mark.parametrize("seed", [np.random.RandomState(0), np.random.default_rng(0)])
def test_parameters_that_cannot_be_stored_are_refused_before_the_work(fitted, seed):
    adata = fitted.copy()
    before = contents(adata)
    with pytest.raises(ValueError, match="random_state"):
        flda.tl.flda(adata, FACTORS, shrinkage=0.5, random_state=seed)
    assert contents(adata) == before


def test_backed_parts_and_copies_are_refused_before_the_work(fitted, tmp_path, monkeypatch):
    fitted.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    monkeypatch.setattr("flda._adata.read.read_cells", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(ValueError, match="to_memory"):
        flda.tl.flda(backed, FACTORS, copy=True)
    with pytest.raises(ValueError, match="to_memory"):
        flda.tl.certify(backed[:100])
    backed.file.close()


def test_scores_of_another_fit_are_refused(fitted):
    new = fitted[:100].copy()
    flda.tl.flda(new, "axon", shrinkage=0.5)
    before = contents(new)
    with pytest.raises(ValueError, match=r"'flda'.*key_added"):
        flda.tl.transform(new, fitted)
    assert contents(new) == before


def test_an_error_in_the_values_writes_nothing(fitted):
    adata = fitted.copy()
    before = contents(adata)
    with pytest.raises(TypeError):
        write(adata, "flda", certificate={"generator": np.random.default_rng(0)})
    assert contents(adata) == before


def test_a_step_writes_into_one_copy_and_returns_it(fitted):
    step = Step("name", fitted, "flda", copy=True)
    out = step.put(warned={"a": ["a"]})
    assert step.write(path=pd.DataFrame({"axis": ["a"]})) is out
    assert Record(out).warnings == ["a"]
    assert "path" in Record(out)
    assert "path" not in Record(fitted)
