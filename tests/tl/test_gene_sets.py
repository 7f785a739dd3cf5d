"""Gene sets in the format of decoupler, on an AnnData."""

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad

import flda
from flda.inference import gene_set_tests

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def fitted():
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=120)
    flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    return adata


@pytest.fixture
def net(fitted):
    rows = [
        (effect, gene, np.sign(fitted[:, gene].varm["flda_pattern"][0, j]))
        for effect, j in (("dendrite", 0), ("axon", 1))
        for gene in fitted.var_names[fitted.var[f"truth_{effect}"]]
    ]
    rows += [("null", gene, 1.0) for gene in fitted.var_names[~fitted.var.filter(like="truth").any(axis=1)][:15]]
    rows += [("small", fitted.var_names[0], 1.0), ("null", "no_such_gene", 1.0)]
    return pd.DataFrame(rows, columns=["source", "target", "weight"])


def test_the_table_is_that_of_the_arrays(fitted, net, tmp_path):
    adata = fitted.copy()
    assert flda.tl.gene_sets(adata, net, n_resamples=49) is None
    table = flda.get.gene_sets_df(adata)
    known = net[net["target"].isin(adata.var_names) & (net["source"] != "small")]
    sets = {
        name: dict(zip(adata.var_names.get_indexer(part["target"]), part["weight"], strict=True))
        for name, part in known.groupby("source", sort=False)
    }
    expected = gene_set_tests(flda.FLDA(shrinkage=0.5), adata.X, adata.obs[FACTORS], sets=sets, n_resamples=49)
    columns = ["axis", "effect", "source", "n_genes", "z", "pval", "pval_adj"]
    pd.testing.assert_frame_equal(table[columns], expected[columns], rtol=1e-6)
    names = [", ".join(adata.var_names[list(genes)]) for genes in expected["leading"]]
    assert table["leading"].tolist() == names
    first = table.groupby("axis", sort=False).first()
    assert first.loc["dendrite_1", "source"] == "dendrite"
    assert first.loc["axon_1", "source"] == "axon"
    pd.testing.assert_frame_equal(
        flda.get.gene_sets_df(adata, "axon"), table[table["effect"] == "axon"].reset_index(drop=True)
    )
    adata.write_h5ad(tmp_path / "sets.h5ad")
    pd.testing.assert_frame_equal(flda.get.gene_sets_df(read_h5ad(tmp_path / "sets.h5ad")), table, check_dtype=False)
    flda.tl.rank_genes(adata, n_genes=5)  # the sets belong to the axes of all genes, so they stay
    pd.testing.assert_frame_equal(flda.get.gene_sets_df(adata), table)


def test_donors_are_the_units(net):
    adata = flda.datasets.t4t5_simulated(n_obs=600, n_vars=120)
    flda.tl.flda(adata, FACTORS, donor="donor", interactions=None, shrinkage=0.5)
    flda.tl.gene_sets(adata, net, n_resamples=99)
    n_donors = adata.obs["donor"].nunique()
    assert flda.get.gene_sets_df(adata)["pval"].min() >= max(1 / 2 ** (n_donors - 1), 0.01)


def test_inputs_that_cannot_be_used(fitted, net):
    before = fitted.copy()
    with pytest.raises(ValueError, match=r"\['target'\].*source"):
        flda.tl.gene_sets(fitted, net.drop(columns="target"))
    with pytest.raises(ValueError, match=r"none of the 4 sets.*min_genes"):
        flda.tl.gene_sets(fitted, net.assign(target=[f"x{i}" for i in range(len(net))]))
    with pytest.raises(ValueError, match="twice in the set 'dendrite'"):
        flda.tl.gene_sets(fitted, pd.concat([net, net.head(1)]))
    with pytest.raises(ValueError, match="'weight'"):
        flda.tl.gene_sets(fitted, net.assign(weight="high"))
    with pytest.raises(ValueError, match=r"flda\.tl\.gene_sets"):
        flda.get.gene_sets_df(fitted)
    assert set(before.uns["flda"]) == set(fitted.uns["flda"])
    adata = fitted.copy()
    flda.tl.gene_sets(adata, net[["source", "target"]], n_resamples=9)
    with pytest.raises(ValueError, match=r"'leg'.*'dendrite'"):
        flda.get.gene_sets_df(adata, "leg")
