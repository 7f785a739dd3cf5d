"""The rankings and the gene sets of the benchmarks."""

import gene_sets
import genes
import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway, mannwhitneyu, norm


@pytest.fixture(scope="module")
def problem():
    return genes.binarised(0)


def test_baselines_are_what_their_names_say(problem):
    X, y, _, _, _ = problem
    single = genes.anova(X, y[["B"]], "B")
    z = genes.wilcoxon(X, y["A"])
    for j in (7, 40, 200):
        expected = f_oneway(*[X[(y["B"] == level).to_numpy(), j] for level in y["B"].unique()]).statistic
        assert single[j] == pytest.approx(expected)
        own = (y["A"] == "p").to_numpy()
        p = mannwhitneyu(X[own, j], X[~own, j], method="asymptotic", use_continuity=False).pvalue
        assert 2 * norm.sf(z[j]) == pytest.approx(p, rel=1e-3, abs=1e-6)
    assert genes.lda(X, y["A"]).argmax() in range(30)


def test_every_method_ranks_planted_genes_first(problem):
    found = {(e, m): genes.quality(v, problem[2][e]) for e, m, v in genes.rankings(problem)}
    assert {m for _, m in found} == set(genes.METHODS)
    assert all(q["precision"] > 0.8 for q in found.values())


def test_tables_of_results():
    rows = [
        {
            "data": data,
            "seed": s,
            "effect": e,
            "method": m,
            "precision": 0.5,
            "average_precision": 0.4,
            "first": 2,
            "of": 4,
        }
        for data, e in (("mixed", "A"), ("mixed", "B"), ("uch", "citrate"))
        for s in range(2)
        for m in genes.METHODS
    ]
    results = pd.DataFrame(rows)
    wide = genes.simulated_table(results, "precision")
    assert wide.loc[0, "F"] == "0.500 ± 0.000"
    assert wide.loc[0, "F less best"].startswith("+0.000")
    assert genes.other_table(results).loc[0, "pattern"] == "2 of 4, 0.400"


def test_gene_sets_of_a_seed():
    for donors in (False, True):
        null, strong = (gene_sets.p_values(3, effect, donors=donors).set_index("axis") for effect in (0.0, 3.0))
        assert strong.loc["A_1", "flips"] < 0.05
        assert len(null) == 5
        assert np.isfinite(null.to_numpy()).all()
