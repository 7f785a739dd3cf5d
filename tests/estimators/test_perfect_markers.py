"""Genes that vary between groups and not within them: markers without noise, which must not be lost."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import flda
from flda import FLDA, SparseFLDA
from flda.cli import main

SOLVERS = ["primal", "dual", "iterative"]


def binarised(n_genes=30, n_cells=120, noise=0.0):
    """On/off genes of which the first is on in every cell of one level and off in the other."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": np.repeat(["p", "q"], n_cells // 2), "B": np.tile(["r", "s"], n_cells // 2)})
    X = (rng.random((n_cells, n_genes)) < 0.5).astype(float)
    X[:, 0] = (y["A"] == "p") + noise * rng.normal(size=n_cells)
    return X, y


@pytest.fixture
def adata():
    X, y = binarised()
    y.index = [f"cell{i}" for i in range(len(y))]
    return ad.AnnData(X, obs=y, var=pd.DataFrame(index=[f"gene{j}" for j in range(30)]))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_genes", [30, 130], ids=["p < N", "p > N"])
@pytest.mark.parametrize("target", ["diagonal", "identity"])
def test_a_perfect_marker_leads_and_is_selected(solver, n_genes, target):
    X, y = binarised(n_genes)
    options = {"shrinkage": 0.3, "shrinkage_target": target, "solver": solver}
    dense, sparse = FLDA(**options).fit(X, y), SparseFLDA(n_genes=2, **options).fit(X, y)
    for model in (dense, sparse):
        assert np.abs(model.components_[0] * model.within_sd_).argmax() == 0
        assert np.abs(model.patterns_[0]).argmax() == 0
        assert np.isfinite(model.patterns_).all()
    assert sparse.selected_["A"][0][0] == 0
    first = sparse.gene_report_.iloc[0]
    assert (first["gene"], first["kind"], bool(first["significant"])) == (0, "pure", True)
    mean = np.delete(dense.within_sd_**2, 0).sum() / n_genes
    assert dense.within_sd_[0] ** 2 == pytest.approx(mean)


def test_without_shrinkage_it_has_no_denominator_and_the_error_says_so():
    with pytest.raises(ValueError, match=r"vary between groups only.*Set shrinkage='auto'"):
        FLDA(shrinkage=0.0).fit(*binarised())


def test_its_ratio_is_finite_and_above_that_of_a_gene_with_noise():
    """A gene that is wrong in 5 % of the cells differs less than one that is never wrong."""
    X, y = binarised()
    X[:, 1] = X[:, 0]
    X[[0, 1, 2, 60, 61, 62], 1] = 1 - X[[0, 1, 2, 60, 61, 62], 1]
    data = ad.AnnData(X, obs=y.set_axis([f"cell{i}" for i in range(120)]))
    flda.tl.flda(data, ["A", "B"], shrinkage=0.3)
    F = data.varm["flda_F"][:, 0]
    assert np.isfinite(F).all()
    assert F.argsort()[::-1][:2].tolist() == [0, 1]
    # at most as if one cell more had deviated as a typical gene does: 30 cells in each of 4 groups
    typical = np.delete(data.var["flda_within_sd"].to_numpy() ** 2, 0).sum() / 30
    assert F[0] < 1 / (typical / 30 / 30)


def test_what_a_single_cell_shows_is_no_perfect_marker():
    rng = np.random.default_rng(0)
    y = pd.DataFrame({"A": ["p"] * 30 + ["q"] * 30 + ["r"]})
    X = rng.normal(size=(61, 20))
    X[:, 0] = 0.0
    X[60, 0] = 9.0  # only the single cell of r has it
    X[:, 1] = y["A"] == "q"
    model = SparseFLDA(n_genes=4, shrinkage=0.3).fit(X, y)
    genes = set(np.concatenate(model.selected_["A"]))
    assert 0 not in genes
    assert 1 in genes
    data = ad.AnnData(X, obs=y.set_axis([f"cell{i}" for i in range(61)]))
    flda.tl.flda(data, "A", shrinkage=0.3)
    # nothing is known of the variance in r, so it is a typical one
    typical = np.delete(data.var["flda_within_sd"].to_numpy() ** 2, 0).sum() / 20
    assert data.varm["flda_F"][0, 0] < 81 / typical


def test_an_axis_of_perfect_markers_alone_is_certified(adata):
    """Its scores do not vary within groups; the ratio is that of one cell with a typical deviation, not NaN."""
    flda.tl.flda(adata, ["A", "B"], shrinkage=0.5)
    flda.tl.rank_genes(adata, effects="A", n_genes=1)
    flda.tl.certify(adata, n_folds=2)
    row = flda.get.certificate_df(adata).set_index(["axis", "genes"]).loc[("A_1", "selected")]
    typical = adata.var["flda_within_sd"].iloc[0] ** 2
    # the mean square of an effect of +-1/2 in units of the target, over 1 / 120
    assert row["snr"] == pytest.approx(0.5 / typical * 120, rel=0.1)
    assert row["crosstalk"] == pytest.approx(0, abs=1e-6)
    assert row["accuracy"] == 1


@pytest.mark.parametrize("shrinkage", ["auto", 0.5])
def test_every_step_takes_a_perfect_marker(adata, shrinkage):
    flda.tl.flda(adata, ["A", "B"], shrinkage=shrinkage)
    assert flda.get.rank_genes_df(adata, "A")["gene"].iloc[0] == "gene0"
    flda.tl.rank_genes(adata, n_genes=3)
    flda.tl.effect_tests(adata, n_resamples=49)
    flda.tl.certify(adata, n_folds=2)
    for sort_by in ("score", "pattern", "F"):
        row = flda.get.rank_genes_df(adata, "A", sort_by=sort_by).iloc[0]
        assert (row["gene"], row["selected"], row["kind"], row["significant"]) == ("gene0", True, "pure", True)
        assert row["pval"] < 0.001
    first = flda.get.gene_tests_df(adata, "A").iloc[0]
    assert first["gene"] == "gene0"
    assert first["pval_max"] == 0.02
    certificate = flda.get.certificate_df(adata).set_index(["axis", "genes"])
    assert np.isfinite(certificate[["snr", "crosstalk"]]).all().all()
    assert (certificate.loc["A_1", "snr"] > 5).all()
    assert "gene0" in flda.report.render(adata, figures=[])


def test_donors_that_all_agree():
    """A transgene that all donors of one level have, and none of the other."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(12), 10)
    obs = pd.DataFrame({"line": np.where(donor < 6, "wt", "tg"), "donor": donor.astype(str)})
    X = rng.normal(size=(120, 20)) + rng.normal(scale=0.3, size=(12, 20))[donor]
    X[:, 3] = donor >= 6
    data = ad.AnnData(X, obs=obs.set_axis([f"cell{i}" for i in range(120)]))
    flda.tl.flda(data, "line", donor="donor", shrinkage=0.5)
    flda.tl.rank_genes(data, n_genes=2)
    flda.tl.effect_tests(data, n_resamples=199)
    row = flda.get.rank_genes_df(data).iloc[0]
    assert (row["gene"], row["selected"], row["significant"]) == ("3", True, True)
    assert np.isfinite(data.varm["flda_F"]).all()
    assert flda.get.rank_genes_df(data, sort_by="F").iloc[0]["gene"] == "3"


def test_the_command_line_selects_it(adata, tmp_path, monkeypatch):
    monkeypatch.setattr(flda.report, "pictures", lambda adata: [])
    adata.write_h5ad(tmp_path / "on_off.h5ad")
    arguments = ["run", tmp_path / "on_off.h5ad", "--factors", "A", "B", "--n-genes", "2", "--shrinkage", "0.5",
                 "--folds", "2", "--sort-by", "F", "--out", tmp_path / "out"]  # fmt: skip
    assert main([str(a) for a in arguments]) == 0
    table = pd.read_csv(tmp_path / "out" / "gene_rankings.csv")
    first = table[table["rank"] == 1].set_index("axis")
    assert first.loc["A_1", "gene"] == "gene0"
    assert first.loc["A_1", "selected"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_degenerate_data_get_a_result_or_one_sentence(solver):
    labels = np.repeat(["p", "q"], 20)
    with pytest.raises(ValueError, match="every gene has the same mean in all groups"):
        FLDA(solver=solver, shrinkage=0.5).fit(np.zeros((40, 5)), labels)
    four = FLDA(solver=solver, shrinkage=0.5).fit([[0.0], [0], [1], [1]], [0, 0, 1, 1])
    assert np.isfinite(four.components_).all()
    assert four.predict([[0.0], [1.0]]).tolist() == [0, 1]
    sparse = SparseFLDA(n_genes=1, solver=solver, shrinkage=0.5).fit([[0.0], [0], [1], [1]], [0, 0, 1, 1])
    assert list(sparse.selected_.values()) == [[[0]]]
    one = SparseFLDA(n_genes=1, solver=solver, shrinkage=0.5).fit([[0.0], [0.5], [1], [2]], [0, 0, 1, 1])
    assert np.isfinite(one.gene_report_["score"]).all()
    with pytest.raises(ValueError, match="use 1 to 1"):
        SparseFLDA(n_genes=20, solver=solver, shrinkage=0.5).fit([[0.0], [0.5], [1], [2]], [0, 0, 1, 1])


def test_degenerate_data_through_the_steps():
    obs = pd.DataFrame({"A": ["p", "p", "q", "q"]}, index=list("abcd"))
    data = ad.AnnData(np.array([[0.0], [0.0], [1.0], [1.0]]), obs=obs)
    flda.tl.flda(data, "A", shrinkage=0.5)
    flda.tl.rank_genes(data, n_genes=1)
    table = flda.get.rank_genes_df(data)
    assert table["selected"].all()
    assert np.isfinite(table[["score", "pattern", "F"]]).all().all()
    empty = ad.AnnData(np.zeros((4, 3)), obs=obs)
    with pytest.raises(ValueError, match="every gene has the same mean in all groups"):
        flda.tl.flda(empty, "A", shrinkage=0.5)
    assert not empty.uns
