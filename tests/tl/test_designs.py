"""Numbers, contrasts and formulas from AnnData to files and figures."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import flda
from flda._adata.fitted import Fitted
from flda._adata.record import Record

from simulated import dosed

TOP = {"b against a at 8": ({"drug": "b", "dose": 8}, {"drug": "a", "dose": 8})}


OPTIONS = {"nuisance": ["batch"], "contrasts": TOP, "shrinkage": 0.2}


@pytest.fixture
def adata():
    out = dosed()
    flda.tl.flda(out, ["drug", "dose"], interactions=["drug:dose"], numeric=["dose"], **OPTIONS)
    return out


def test_formula_equals_factors(adata):
    pytest.importorskip("formulaic", reason="needs the extra formula")
    again = dosed()
    flda.tl.flda(again, "~ drug * dose + batch", **OPTIONS)
    np.testing.assert_allclose(again.varm["flda"], adata.varm["flda"], rtol=1e-12)
    np.testing.assert_allclose(again.varm["flda_F"], adata.varm["flda_F"], rtol=1e-12)
    assert Record(again).params["factors"] == ["drug", "dose"]
    with pytest.raises(ValueError, match="leave interactions out"):
        flda.tl.flda(again, "~ drug", interactions=None)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_fit_can_be_repeated_from_its_file(adata, tmp_path, suffix):
    path = tmp_path / f"fit.{suffix}"
    getattr(adata, f"write_{suffix}")(path)
    back = getattr(ad, f"read_{suffix}")(path)
    fitted = Fitted.read(back, "flda")
    model = fitted.dense().fit(fitted.X, fitted.labels)
    np.testing.assert_allclose(model.components_.T, adata.varm["flda"], rtol=1e-10)
    record = Record(back)
    assert record.contrasts["b against a at 8"]["sides"] == "drug=b, dose=8.0 less drug=a, dose=8.0"
    assert record.rivals("b against a at 8")[1:] == ["dose.linear", "batch"]
    assert "b against a at 8" not in record.rivals("drug")
    assert record.factors_of("drug:dose.linear") == ["drug", "dose"]
    assert record.factors_of("b against a at 8") == ["drug", "dose"]


def test_every_step_has_rows_for_trends_and_contrasts(adata):
    flda.tl.rank_genes(adata, n_genes=2)
    flda.tl.effect_tests(adata, n_resamples=19)
    flda.tl.certify(adata, n_folds=2)
    flda.tl.held_out_scores(adata, n_folds=2)
    names = ["drug", "dose.linear", "drug:dose.linear", "b against a at 8"]
    ranking = flda.get.rank_genes_df(adata)
    assert ranking["effect"].drop_duplicates().tolist() == names
    own = ranking[ranking["effect"] == names[-1]]
    assert own["gene"].iloc[0] == "g1"
    assert own["pval"].notna().all()
    assert flda.get.effect_tests_df(adata)["effect"].tolist() == names
    certificate = flda.get.certificate_df(adata)
    assert certificate["effect"].unique().tolist() == names
    assert (certificate["snr"] > 0).all()
    # a contrast does not add to the variance of the table
    assert names[-1] not in flda.get.variance_df(adata)["effect"].tolist()
    # and the specificity of another effect does not know it
    plain = dosed()
    flda.tl.flda(
        plain, ["drug", "dose"], interactions=["drug:dose"], numeric=["dose"], **{**OPTIONS, "contrasts": None}
    )
    a, b = (flda.get.rank_genes_df(x, "drug").set_index("gene")["specificity"].sort_index() for x in (plain, adata))
    np.testing.assert_allclose(a, b)
    page = flda.report.render(adata, figures=[])
    assert "drug=b, dose=8.0 less drug=a, dose=8.0" in page
    assert "numeric: dose" in page


def test_an_axis_of_a_number_is_drawn_to_scale(adata):
    ax = flda.pl.scores(adata, "drug:dose.linear_1")
    assert ax.get_xlabel() == "dose"
    curves = [line for line in ax.lines if len(line.get_xdata()) == 100]
    assert len(curves) == 2  # a line for each drug
    for line in curves:
        x, y = line.get_data()
        np.testing.assert_allclose(np.diff(y) / np.diff(x), (y[-1] - y[0]) / (x[-1] - x[0]), rtol=1e-6)
        assert x[-1] - x[0] == pytest.approx(8)
    alone = dosed()
    flda.tl.flda(alone, ["dose"], numeric={"dose": "trend"}, shrinkage=0.2)
    ax = flda.pl.scores(alone, "dose.linear_1")
    assert ax.get_legend() is None
    for axis in ("dose.quadratic_1", "dose.rest_2"):
        flda.pl.genes(alone, axis, n_genes=3)
    flda.pl.genes(adata, "b against a at 8_1", n_genes=3)
    flda.pl.scores(adata, "b against a at 8_1")
    plt.close("all")


def test_a_number_of_many_values_has_a_table_without_numbers():
    adata = dosed(n=8)
    adata.obs["age"] = np.arange(adata.n_obs) // 2 * 0.5
    flda.tl.flda(adata, ["drug", "age"], numeric=["age"], shrinkage=0.2)
    assert not flda.get.estimability_df(adata)["missing"].any()
    ax = flda.pl.design(adata)
    assert not ax.texts
    assert len(ax.get_xticklabels()) <= 60
    flda.pl.scores(adata, "age.linear_1")
    plt.close("all")


def test_ordered_levels_are_drawn_in_their_order():
    adata = dosed()
    adata.obs["stage"] = pd.Categorical(
        np.array(["early", "mid", "late", "end", "after"])[pd.factorize(adata.obs["dose"])[0]],
        categories=["early", "mid", "late", "end", "after"], ordered=True,
    )  # fmt: skip
    flda.tl.flda(adata, ["stage"], numeric={"stage": 2}, shrinkage=0.2)
    assert flda.get.axes_df(adata)["effect"].tolist() == ["stage.linear", "stage.quadratic"]
    ax = flda.pl.scores(adata, "stage.linear_1")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["early", "mid", "late", "end", "after"]
    plt.close("all")


def test_messages_name_what_is_wrong():
    adata = dosed()
    adata.obs["age"] = np.arange(adata.n_obs) // 2 * 1.0
    with pytest.raises(ValueError, match=r"'age' holds 40 distinct numbers.*numeric=\['age'\]"):
        flda.tl.flda(adata, ["drug", "age"], interactions=None)
    with pytest.raises(ValueError, match="numeric names 'doses'"):
        flda.tl.flda(adata, ["drug", "dose"], numeric=["doses"])
    with pytest.raises(ValueError, match="'x' names the level 'c' of 'drug'"):
        flda.tl.flda(adata, ["drug"], contrasts={"x": ({"drug": "c"}, {"drug": "a"})})
    with pytest.raises(ValueError, match="must map names"):
        flda.tl.flda(adata, ["drug"], contrasts=[1])
    assert "flda" not in adata.uns
