"""The answers of the report, judged by the numbers and names in them."""

import numpy as np
import pandas as pd
import pytest

import flda
from flda._adata.record import Record
from flda._adata.results import write
from flda.report._answers import answers, best_axes

FACTORS = ["dendrite", "axon"]
SEPARATION, PURITY, GENES, STABILITY, LOST = range(5)


def said(adata):
    """The answers in their order, each as one text."""
    ranking = flda.get.rank_genes_df(adata)
    return [" ".join((a.headline, *a.details)) for a in answers(adata, ranking)]


def headlines(adata):
    return [a.headline for a in answers(adata, flda.get.rank_genes_df(adata))]


def test_the_answers_come_from_the_certificate(adata):
    table = flda.get.certificate_df(adata)
    table[["snr", "crosstalk"]] = 2.0, 0.1
    table.loc[table["axis"] == "axon_2", ["snr", "crosstalk", "snr_dendrite", "snr_dendrite:axon"]] = 60, 15, 14, 1
    table.loc[table["axis"] == "dendrite:axon_3", ["snr", "crosstalk"]] = 0.5, -0.01
    table.loc[(table["axis"] == "axon_2") & (table["genes"] == "selected"), "snr"] = 30.0
    table[["accuracy", "chance"]] = 0.93, 0.5
    write(adata, "flda", certificate=table)
    first = headlines(adata)
    for part in ("axon", "axon_2", "60.0", "30.0"):
        assert part in first[SEPARATION]
    for part in ("80 %", "axon_2", "axon", "15.0", "dendrite (14.0)"):
        assert part in first[PURITY]
    genes = flda.get.rank_genes_df(adata, "axon").query("axis == 'axon_2'")["gene"].head(10)
    assert first[GENES] == f"axon_2: {', '.join(genes)}."
    every = said(adata)
    assert "Do not rely on dendrite:axon_3" in every[SEPARATION]
    assert "axon_2 66.7 %" in every[PURITY]
    assert "0.93" in every[PURITY]
    assert "0.50" in every[PURITY]
    assert "flda.tl.stability" in every[STABILITY]
    assert "axon" not in every[LOST]


def test_the_headline_has_a_standard_error_and_the_details_the_scheme(adata):
    table = flda.get.certificate_df(adata)
    table.loc[table["axis"] == "axon_1", ["snr", "se_snr"]] = 400.0, 12.0
    write(adata, "flda", certificate=table)
    first = answers(adata, flda.get.rank_genes_df(adata))
    assert "axon_1 is 400 ± 12.0 with all genes, and 400 ± 12.0 with" in first[SEPARATION].headline
    n_folds = table["n_folds"].iloc[0]
    assert f"cross-validation with {n_folds} folds" in first[PURITY].details[-1]
    write(adata, "flda", certificate=table.assign(scheme="pooled", n_folds=8))
    pooled = answers(adata, flda.get.rank_genes_df(adata))[PURITY].details[-1]
    assert "too few cells" in pooled
    assert "8 fits" in pooled
    assert "pooled" in pooled


def test_tests_and_stability_are_quoted(adata):
    flda.tl.effect_tests(adata, n_resamples=19)
    tests = Record(adata).tests
    tests["table"]["pval_adj"] = [0.005, 0.01, 0.5]
    write(adata, "flda", tests=tests)
    found = flda.get.rank_genes_df(adata).query("selected")[["axis", "effect", "gene"]]
    found["frequency"] = np.where(found.groupby("axis").cumcount() < 9, 0.95, 0.4)
    found = found.drop(columns="axis").drop_duplicates(["effect", "gene"])
    write(adata, "flda", stability={"genes": found, "params": {"n_resamples": 50, "n_bootstraps": 0, "unit": "donor"}})
    every = said(adata)
    for part in ("dendrite p = 0.005", "axon p = 0.01", "dendrite:axon p = 0.5", "19", "cell"):
        assert part in every[SEPARATION]
    axis = best_axes(Record(adata), "selected")[0]
    assert headlines(adata)[STABILITY].startswith(f"{axis}: 9 of 12 ")
    for part in ("80 %", "median 95 %", "50 halves of the donors"):
        assert part in every[STABILITY]


def test_without_a_certificate_or_a_selection():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=60)
    adata.obs.loc[adata.obs_names[:3], "axon"] = np.nan
    adata = adata[adata.obs["subtype"] != "T5c"].copy()
    n_missing = int(adata.obs["axon"].isna().sum())
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    every = said(adata)
    assert "flda.tl.certify" in every[SEPARATION]
    assert "flda.tl.rank_genes" in every[GENES]
    for part in ("dendrite:axon: ", "T5 x c", "1 of 8 groups is empty: T5 × c", f"{n_missing} of {adata.n_obs} cells"):
        assert part in every[LOST]
    assert best_axes(Record(adata)) == ["dendrite_1", "axon_1"]
    page = flda.report.render(adata, figures=[])
    for call in ("flda.tl.certify", "flda.tl.effect_tests", "flda.tl.stability", "flda.tl.path"):
        assert call in page


def test_small_groups_and_interactions_left_out_are_mentioned():
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)
    rare = np.flatnonzero(adata.obs["subtype"] == "T5c")[3:]
    adata = adata[np.setdiff1d(np.arange(300), rare)].copy()
    flda.tl.flda(adata, FACTORS, interactions=None, shrinkage=0.5)
    assert "on request" in said(adata)[LOST]
    assert "1 group has fewer than 5 cells" in said(adata)[LOST]


@pytest.mark.parametrize("name", ["path", "stability", "tests"])
def test_nothing_is_called_missing_that_was_run(adata, name):
    step = {
        "path": lambda: flda.tl.path(adata, n_genes=[2, 3], n_folds=2),
        "stability": lambda: flda.tl.stability(adata, n_resamples=2, n_bootstraps=0),
        "tests": lambda: flda.tl.effect_tests(adata, n_resamples=9),
    }[name]
    call = {"tests": "flda.tl.effect_tests"}.get(name, f"flda.tl.{name}")
    assert call in flda.report.render(adata, figures=[])
    step()
    assert call not in flda.report.render(adata, figures=[])
    pictures = [p.name for p in flda.report.pictures(adata)]
    assert {"path": "path_dendrite_1", "stability": "stability", "tests": "design"}[name] in pictures


def test_a_certificate_of_single_numbers_is_enough(adata):
    table = pd.DataFrame(
        {
            "axis": ["axon_1"],
            "genes": ["all"],
            "effect": ["axon"],
            "snr": [np.nan],
            "crosstalk": [np.nan],
            "n_folds": [2],
        }
    )
    write(adata, "flda", certificate=table)
    assert "axon" not in headlines(adata)[SEPARATION]
