"""Depth that goes with a factor: its size is announced, and ordinary data stay silent."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flda
from flda.inference import depth_check


def counts_of(ratio, n=120, p=200, seed=0):
    """Counts without any biology; cells of the second level of A have ``ratio`` times the depth."""
    rng = np.random.default_rng(seed)
    codes = np.array([*np.ndindex(2, 3)] * (n // 6))
    rates = rng.gamma(0.5, 1.0, size=p)
    depth = np.where(codes[:, 0] == 1, ratio, 1.0) * rng.lognormal(0, 0.3, size=n)
    X = rng.poisson(depth[:, None] * rates)
    return X, pd.DataFrame(codes.astype(str), columns=["A", "B"])


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_ratios_of_geometric_means(make):
    X, y = counts_of(3.0)
    total, genes = X.sum(axis=1), (X > 0).sum(axis=1)
    for depth, values in ((total, total), (None, genes)):
        table = depth_check(make(X.astype(float)), y, depth=depth).set_index("factor")
        for factor in ("A", "B"):
            means = np.exp(pd.Series(np.log(values)).groupby(y[factor]).mean())
            assert table.loc[factor, "ratio"] == pytest.approx(means.max() / means.min())
            assert table.loc[factor, ["lowest", "highest"]].tolist() == [means.idxmin(), means.idxmax()]
        assert table["large"].tolist() == [True, False]
    with pytest.raises(ValueError, match="120"):
        depth_check(X, y, depth=total[:-1])


def adata_of(ratio):
    import anndata

    X, y = counts_of(ratio)
    y.index = y.index.astype(str)
    scaled = np.log1p(X / X.sum(axis=1, keepdims=True) * 200)
    return anndata.AnnData(scaled, y, layers={"counts": X.astype(float)})


@pytest.mark.parametrize("source", ["total_counts", "n_counts", "layer", "genes"])
def test_a_fit_warns_of_the_factor_and_names_what_to_do(source):
    adata = adata_of(3.0)
    total = adata.layers["counts"].sum(axis=1)
    if source.endswith("counts"):
        adata.obs[source] = total
    if source != "layer":
        del adata.layers["counts"]
    with pytest.warns(UserWarning, match=r"'A'.*nuisance") as caught:
        flda.tl.flda(adata, ["A", "B"], shrinkage=0.5)
    assert len(caught) == 1
    values = (adata.X > 0).sum(axis=1) if source == "genes" else total
    means = pd.Series(np.log(values)).groupby(adata.obs["A"].to_numpy()).mean()
    assert f"{np.exp(means['1'] - means['0']):.1f} times" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_depth_as_a_nuisance_factor_or_without_a_difference_is_silent():
    flda.tl.flda(adata_of(1.2), ["A", "B"], shrinkage=0.5)
    adata = adata_of(3.0)
    flda.tl.flda(adata, "B", nuisance="A", shrinkage=0.5)


def test_ordinary_data_are_silent():
    adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    for layer in (True, False):
        if not layer:
            del adata.layers["counts"]
        flda.tl.flda(adata, ["dendrite", "axon"], donor="donor", shrinkage=0.5)


def test_cell_types_of_blood_are_silent():
    scanpy = pytest.importorskip("scanpy", reason="needs the extra scanpy")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = scanpy.datasets.pbmc68k_reduced()
    flda.tl.flda(adata, ["bulk_labels", "phase"], interactions=None, shrinkage=0.5)
    del adata.obs["n_counts"]
    flda.tl.flda(adata, ["bulk_labels", "phase"], interactions=None, shrinkage=0.5)


@pytest.mark.data
def test_the_amount_of_rna_is_depth():
    adata = flda.datasets.rnamix()[:, :2000].copy()
    with pytest.warns(UserWarning, match="'amount'") as caught:
        flda.tl.flda(adata, ["mixture", "amount", "protocol"], interactions=None, shrinkage=0.5)
    assert len(caught) == 1
