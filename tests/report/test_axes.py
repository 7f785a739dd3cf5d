"""Sentences, lights and the paragraph of methods, against what the data were made of."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import flda
from flda._adata.results import Record, write
from flda.report._axes import methods, verdicts

FACTORS = ["dendrite", "axon"]


def made(levels, of_group, n=12):
    """A fit of cells whose first gene has a given mean in every level."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"a": np.repeat(levels, 2 * n), "b": np.tile(np.repeat(["x", "y"], n), len(levels))})
    X = rng.normal(5, 1, (len(obs), 8))
    X[:, 0] += [of_group(a, b) for a, b in zip(obs["a"], obs["b"], strict=True)]
    adata = AnnData(X, obs.set_index(obs.index.astype(str)))
    flda.tl.flda(adata, ["a", "b"], shrinkage=0.3)
    return Record(adata)


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ({"k": 0, "l": 30, "m": 0, "n": 0}, "a_1 separates l from k, m, n."),
        ({"k": 30, "l": 0, "m": 30, "n": 0}, "a_1 separates k, m from l, n."),
        ({"k": 0, "l": 10, "m": 20, "n": 30}, ("k > l > m > n.", "n > m > l > k.")),
        (
            dict(zip("klmnopq", [0, 20, 1, -20, 0, -1, -18], strict=True)),
            ("with l at one end and n, q at the other.", "with n, q at one end and l at the other."),
        ),
        (dict(zip("klmnopq", [0, 0, 0, 0, 30, 0, 0], strict=True)), "a_1 separates o from the 6 other levels of a."),
    ],
)
def test_a_sentence_says_which_levels_an_axis_separates(means, said):
    first = verdicts(made(list(means), lambda a, b: means[a]))[0]
    assert first.light == "grey"
    assert first.sentence.endswith(said)


def test_a_sentence_of_an_interaction_names_its_groups():
    record = made(["k", "l", "m"], lambda a, b: 10.0 * (a == "k") * (1 if b == "x" else -1))
    sentence = next(v.sentence for v in verdicts(record) if v.axis == "a:b_1")
    sides = sentence.split(", beyond")[0].split("separates ")[1].split(" from ")
    assert {"k × x", "k × y"} <= {name for side in sides for name in side.split(", ")}
    assert ("k × x" in sides[0]) != ("k × y" in sides[0])


@pytest.mark.parametrize(
    ("snr", "error", "crosstalk", "pval", "frequency", "light"),
    [
        (9, 1, 0.1, np.nan, np.nan, "green"),
        (9, 1, 0.1, 0.01, np.nan, "green"),
        (9, 1, 0.1, 0.2, np.nan, "red"),
        (9, 1, 0.1, 3 / 32, np.nan, "yellow"),  # not significant, and not smaller because there are few donors
        (0.9, 0.1, 0.1, 3 / 32, np.nan, "red"),
        (9, 1, 4.0, np.nan, np.nan, "yellow"),
        (9, 1, 10.0, np.nan, np.nan, "red"),
        (2, 0.9, 0.1, np.nan, np.nan, "yellow"),
        (2, 1.1, 0.1, np.nan, np.nan, "red"),
        (0.9, 0.1, 0.0, np.nan, np.nan, "red"),
        (np.nan, 1, 0.0, np.nan, np.nan, "grey"),
    ],
)
def test_lights_follow_the_rule(adata, snr, error, crosstalk, pval, frequency, light):
    table = flda.get.certificate_df(adata)
    mine = table["axis"] == "axon_1"
    table.loc[mine, ["snr", "se_snr", "crosstalk"]] = [snr, error, crosstalk]
    write(adata, "flda", certificate=table)
    if np.isfinite(pval):
        effects = ["dendrite", "axon", "dendrite:axon"]
        tests = pd.DataFrame({"effect": effects, "pval": pval / 3, "pval_adj": pval, "unit": "donor"})
        tests = tests.assign(n_resamples=31, n_distinct=32.0)  # p is 1/32 at least
        write(adata, "flda", tests={"table": tests, "null": {}})
    found = next(v for v in verdicts(Record(adata)) if v.axis == "axon_1")
    assert found.light == light
    assert found.sentence.startswith("On the fitted cells, ") == (light in ("red", "grey"))


def test_methods_say_what_was_done_and_nothing_else(adata):
    text = methods(Record(adata))
    for part in ("400 cells", "120 genes", "dendrite and axon", "12 genes each", "shrinkage", flda.__version__):
        assert part in text
    assert "resamples" not in text
    assert "chosen by cross-validation" not in text
    assert "halves" not in text
    flda.tl.effect_tests(adata, n_resamples=9)
    assert "9 resamples (unit: cell)" in methods(Record(adata))


def test_the_light_of_an_axis_counts_its_own_genes(adata):
    """Genes of axon_1 are stable, and those of the other axes are not."""
    table = flda.get.certificate_df(adata)
    table.loc[table["axis"].isin(["axon_1", "axon_2"]), ["snr", "se_snr", "crosstalk"]] = [9, 1, 0.1]
    record = Record(adata)
    own = record.sparse_loadings.index[record.sparse_loadings["axon_1"] != 0]
    genes = pd.DataFrame({"effect": "axon", "gene": record.gene_names})
    genes["frequency"] = np.where(genes["gene"].isin(own), 1.0, 0.2)
    params = {"n_resamples": 50, "n_bootstraps": 0, "unit": "cell"}
    write(adata, "flda", certificate=table)
    write(adata, "flda", stability={"genes": genes, "params": params})
    found = {v.axis: v for v in verdicts(Record(adata))}
    assert found["axon_1"].light == "green"
    assert "100 %" in found["axon_1"].numbers
    assert found["axon_2"].light == "yellow"
