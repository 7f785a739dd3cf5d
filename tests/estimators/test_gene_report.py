"""What every selected gene does."""

import numpy as np
import pandas as pd
import pytest

from flda import SparseFLDA
from flda._data.summary import summarise
from flda._error.gene_f import gene_f
from flda.metrics import significant, specificity

from oracle import problem


def test_the_numbers_of_a_gene():
    X, y = problem(200, 30, (2, 3))
    names = [f"g{i:02d}" for i in range(30)]
    model = SparseFLDA(n_genes=4, shrinkage=0.3).fit(pd.DataFrame(X, columns=names), y)
    report = model.gene_report_
    assert report.groupby("axis", sort=False).size().tolist() == [4] * 5
    assert report.groupby("axis")["rank"].apply(list).tolist() == [[1, 2, 3, 4]] * 5
    assert (report.groupby("axis")["score"].apply(lambda s: s.abs().is_monotonic_decreasing)).all()
    design = model.design_
    found = summarise(X, design.codes, design.n_groups)
    F = gene_f(design, None, found.sums, found.squares)
    kinds = {e: specificity(F, e, {t.name: design.df(t) for t in design.contrasts}) for e in F}
    for _, row in report.iterrows():
        axis, j = model.axes_["axis"].tolist().index(row["axis"]), names.index(row["gene"])
        assert row["loading"] == pytest.approx(model.components_[axis, j])
        assert row["within_sd"] == pytest.approx(model.within_sd_[j])
        assert row["score"] == pytest.approx(model.components_[axis, j] * model.within_sd_[j])
        assert row[["F_A", "F_B", "F_A:B"]].tolist() == pytest.approx(F.iloc[j].tolist())
        assert row["pattern"] == pytest.approx(model.patterns_[axis, j])
        assert row["significant"] == significant(F[row["effect"]], design.df(design.effect(row["effect"])))[j]
        share, kind = kinds[row["effect"]]
        assert row["specificity"] == pytest.approx(share[j], nan_ok=True)
        assert row["kind"] == kind[j]
    assert (report[report["rank"] == 1]["score"] > 0).all()  # the largest standardised loading of an axis


def test_means_are_those_of_the_levels_of_the_axis():
    """Of groups, not of cells: every group of a level counts the same."""
    X, y = problem(200, 30, (2, 3))
    report = SparseFLDA(n_genes=4, shrinkage=0.3).fit(X, y).gene_report_
    row = report.iloc[0]
    groups = pd.Series(X[:, row["gene"]]).groupby([y["A"], y["B"]]).mean()
    assert row["mean_A0"] == pytest.approx(groups["A0"].mean())
    assert np.isnan(row["mean_B0"])
    interaction = report[report["axis"] == "A:B_1"].iloc[0]
    groups = pd.Series(X[:, interaction["gene"]]).groupby([y["A"], y["B"]]).mean()
    assert interaction["mean_A0:B1"] == pytest.approx(groups["A0", "B1"])


@pytest.mark.parametrize("solver", ["primal", "dual"])
def test_collinear_genes_are_named_and_only_one_is_taken(solver):
    X, y = problem(200, 20, (2, 2), seed=5)
    base = SparseFLDA(n_genes=3, shrinkage=0.0).fit(X, y)
    gene = base.selected_["A"][0][0]
    X = np.column_stack([X, -2 * X[:, gene] + 1])
    model = SparseFLDA(n_genes=3, shrinkage=1e-8, solver=solver).fit(X, y)
    report = model.gene_report_.query("axis == 'A_1'").set_index("gene")
    taken = [g for g in (gene, 20) if g in report.index]
    assert len(taken) == 1
    assert report.at[taken[0], "collinear"] == tuple({gene, 20} - set(taken))
    assert (report.drop(taken)["collinear"].map(len) == 0).all()
    alone = SparseFLDA(n_genes=3, shrinkage=1.0).fit(X, y).gene_report_
    assert (alone["collinear"].map(len) == 0).all()  # the target alone holds no correlations
