"""What happens to an AnnData before, between and after the steps: every step goes on, follows by name, or says so."""

import warnings

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from test_faults import sentence

import flda
from flda._adata.record import Record

from array_kinds import dask_of

FACTORS = ["dendrite", "axon"]
FIT = {"shrinkage": 0.5, "interactions": None}
AGAIN = "fit again"


def cells():
    adata = flda.datasets.t4t5_simulated(96, 50)[:, :12].copy()
    adata.X = adata.X.toarray()
    adata.layers["counts"] = adata.layers["counts"].astype(float)
    return adata


BASE = cells()


@pytest.fixture
def figures():
    yield
    plt.close("all")


@pytest.fixture
def fitted():
    adata = BASE.copy()
    adata.obs.loc[adata.obs_names[:3], "axon"] = np.nan
    adata.var["use"] = np.arange(12) < 10
    with warnings.catch_warnings(action="ignore"):
        flda.tl.flda(adata, FACTORS, donor="donor", mask_var="use", **FIT)
    flda.tl.rank_genes(adata, n_genes=2, gap_effort=0)
    return adata


NET = pd.DataFrame({"source": "s", "target": BASE.var_names[:5]})
STEPS = {
    "rank_genes": lambda a: flda.tl.rank_genes(a, n_genes=2, gap_effort=0),
    "certify": lambda a: flda.tl.certify(a, n_folds=2),
    "effect_tests": lambda a: flda.tl.effect_tests(a, n_resamples=3),
    "gene_sets": lambda a: flda.tl.gene_sets(a, NET, n_resamples=3, min_genes=2),
    "held_out_scores": lambda a: flda.tl.held_out_scores(a, n_folds=2),
}
# the longer steps read the fit by the same door, so one kind of change is enough for them
LONG = {
    "stability": lambda a: flda.tl.stability(a, n_resamples=2, n_bootstraps=0),
    "path": lambda a: flda.tl.path(a, n_genes=[1], n_folds=2),
    "choose_penalty": lambda a: flda.tl.choose_penalty(a, penalties=[1.0], n_folds=2),
    "pl.genes": lambda a: flda.pl.genes(a),
}
READERS = {
    "axes_df": flda.get.axes_df,
    "rank_genes_df": flda.get.rank_genes_df,
    "design_df": flda.get.design_df,
    "scores": lambda a: Record(a).scores,
    "pl.scores": flda.pl.scores,
    "pl.loadings": flda.pl.loadings,
    "transform": lambda a: flda.tl.transform(BASE.copy(), a),
    "predict": lambda a: flda.tl.predict(BASE.copy(), a),
}


def through_file(adata, folder):
    adata.write_h5ad(folder / "x.h5ad")
    return ad.read_h5ad(folder / "x.h5ad")


def through_zarr(adata, folder):
    adata.write_zarr(folder / "x.zarr")
    return ad.read_zarr(folder / "x.zarr")


def with_x(change):
    def changed(adata, _):
        adata = adata.copy()
        adata.X = change(adata.X)
        return adata

    return changed


def with_obs(**columns):
    def changed(adata, _):
        adata = adata.copy()
        for name, values in columns.items():
            adata.obs[name] = values(adata.obs)
        return adata

    return changed


SAME = {
    "cells in another order": lambda a, _: a[::-1].copy(),
    "genes in another order": lambda a, _: a[:, np.random.default_rng(0).permutation(12)].copy(),
    "a view": lambda a, _: a[np.arange(96) >= 0],
    "without cells that had no label": lambda a, _: a[a.obs["axon"].notna()].copy(),
    "without genes that were not used": lambda a, _: a[:, a.var["use"]].copy(),
    "single precision": with_x(lambda X: X.astype(np.float32)),
    "sparse by columns": with_x(sp.csc_matrix),
    "dask": with_x(lambda X: dask_of(X, 30)),
    "through h5ad": through_file,
    "through zarr": through_zarr,
    "further columns": with_obs(new=lambda o: np.arange(len(o))),
    "labels as text": with_obs(axon=lambda o: o["axon"].astype(object)),
    "categories removed": with_obs(axon=lambda o: o["axon"].cat.add_categories("zz").cat.remove_unused_categories()),
    "halves put together again": lambda a, _: ad.concat([a[:50], a[50:]], merge="same", uns_merge="same"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("change", SAME)
def test_what_did_not_change_goes_on(fitted, change, tmp_path):
    flda.tl.effect_tests(fitted, n_resamples=3)
    expected = flda.get.rank_genes_df(fitted).set_index(["axis", "gene"])
    scores = Record(fitted).scores
    other = SAME[change](fitted, tmp_path)
    for step in ("rank_genes", "effect_tests", "held_out_scores"):
        STEPS[step](other)
    found = flda.get.rank_genes_df(other).set_index(["axis", "gene"]).loc[expected.index]
    for column in ("score", "pattern", "F", "selected", "pval"):
        if column != "pval" or "order" not in change:  # flips are drawn cell by cell
            np.testing.assert_allclose(found[column].astype(float), expected[column].astype(float), atol=1e-5)
    pd.testing.assert_frame_equal(Record(other).scores, scores.loc[other.obs_names])
    assert set(other.var_names[other.var["flda_candidates"]]) <= set(fitted.var_names[fitted.var["use"]])


def labels_moved(adata, _):
    adata = adata.copy()
    adata.obs["axon"] = adata.obs["axon"].to_numpy()[::-1]
    return adata


def one_value(adata, _):
    adata = adata.copy()
    adata.X[40, 2] += 0.01
    return adata


def two_fits(adata, _):
    other = BASE[40:].copy()
    flda.tl.flda(other, FACTORS, **FIT)
    return ad.concat([adata[:40], other], merge="first", uns_merge="first")


def from_raw(adata, _):
    adata = adata.copy()
    before = BASE.copy()
    adata.raw = before
    return adata.raw.to_adata()


def without(where, name):
    def changed(adata, _):
        adata = adata.copy()
        del getattr(adata, where)[name]
        return adata

    return changed


# change -> what the steps say, and which readers say it too
CHANGED = {
    "a level gone": (lambda a, _: a[a.obs["axon"] != "d"].copy(), AGAIN, ()),
    "a group gone": (lambda a, _: a[a.obs["subtype"] != "T4d"].copy(), AGAIN, ()),
    "one cell gone": (lambda a, _: a[1:][3:].copy(), AGAIN, ()),
    "a view of some cells": (lambda a, _: a[20:], AGAIN, ()),
    "genes gone": (lambda a, _: a[:, 2:].copy(), AGAIN, ("transform", "predict")),
    "rescaled": (with_x(lambda X: X * 100), AGAIN, ()),
    "z-scored": (with_x(lambda X: (X - X.mean(0)) / X.std(0)), AGAIN, ()),
    "one value changed": (one_value, AGAIN, ()),
    "cells exchanged": (with_x(lambda X: X[::-1]), AGAIN, ()),
    "genes exchanged": (with_x(lambda X: X[:, ::-1]), AGAIN, ()),
    "labels moved": (labels_moved, AGAIN, ()),
    "levels renamed": (with_obs(axon=lambda o: o["axon"].cat.rename_categories({"a": "A"})), "obs['axon']", ()),
    "levels joined": (with_obs(axon=lambda o: o["axon"].astype(object).replace("a", "b")), "obs['axon']", ()),
    "donors changed": (with_obs(donor=lambda o: o["donor"].to_numpy()[::-1]), "obs['donor']", ()),
    "a label more": (with_obs(axon=lambda o: o["axon"].fillna("a")), AGAIN, ()),
    "cells called simulated": (with_obs(flda_augmented=lambda o: np.arange(len(o)) < 20), "simulated", ()),
    "a column gone": (without("obs", "axon"), "'axon'", ("pl.scores",)),
    "two fits put together": (two_fits, None, ("scores", "pl.scores")),
    "taken from raw": (from_raw, AGAIN, ("rank_genes_df", "pl.loadings", "transform", "predict")),
    "scores deleted": (without("obsm", "X_flda"), None, ("scores", "pl.scores")),
    "loadings deleted": (without("varm", "flda"), None, ("pl.loadings", "rank_genes_df", "transform")),
    "the fit deleted": (without("uns", "flda"), "flda.tl.flda", tuple(READERS)),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("change", CHANGED)
def test_what_changed_is_said(fitted, change, tmp_path, figures):
    make, words, readers = CHANGED[change]
    other = make(fitted, tmp_path)
    before = sorted(other.uns.get("flda", {}))
    for name, step in ({**STEPS, **LONG} if change == "rescaled" else STEPS).items():
        if words is not None and name != ("rank_genes" if change == "cells called simulated" else ""):
            sentence(lambda step=step: step(other), words)
    for name, read in READERS.items():
        if name in readers:
            sentence(lambda read=read: read(other), "flda.tl." if change != "a column gone" else "'axon'")
        elif change != "loadings deleted" and (change, name) != ("a level gone", "pl.scores"):
            read(other)
    if change != "cells called simulated":
        assert sorted(other.uns.get("flda", {})) == before


def test_a_selection_follows_its_genes(fitted):
    names = fitted.var_names[fitted.var["flda_candidates"]]
    other = fitted[:, ::-1].copy()
    flda.tl.stability(other, n_resamples=2, n_bootstraps=0)
    genes = flda.get.stability_df(other)
    assert set(genes.loc[genes["frequency"] > 0, "gene"]) <= set(names)


def objects():
    yield "AnnCollection", ad.experimental.AnnCollection([BASE[:50].copy(), BASE[50:].copy()], join_vars="inner")
    yield "DataFrame", BASE.to_df()
    yield "Raw", ad.AnnData(BASE.X, raw=BASE).raw
    yield "NoneType", None
    yield "str", "cells.h5ad"
    yield "ndarray", BASE.X


@pytest.mark.parametrize(("kind", "value"), list(objects()))
def test_what_is_no_anndata(kind, value):
    sentence(lambda: flda.tl.flda(value, FACTORS), "AnnData", kind)
    for call in (*STEPS.values(), *LONG.values(), flda.get.axes_df, flda.pl.scores, flda.report.write):
        with pytest.raises((ValueError, TypeError), match=r"AnnData|out"):
            call(value) if call is not flda.report.write else call(value, "x.html")
    sentence(lambda: flda.tl.transform(value, BASE), "AnnData")
    sentence(lambda: flda.circuits.infer_signs(value, "subtype"), "AnnData", kind)


def uns(name, value):
    def changed(adata):
        adata.uns[name] = value

    return changed


def obsm(name):
    def changed(adata):
        adata.obsm[name] = np.zeros((adata.n_obs, 2))

    return changed


def obs(name):
    def changed(adata):
        adata.obs[name] = "mine"

    return changed


def obs_value(name, value):
    def changed(adata):
        adata.obs[name] = value

    return changed


def call(function, **options):
    return lambda adata: function(adata, **options)


def fit(**options):
    return call(flda.tl.flda, **{"factors": FACTORS, **FIT, **options})


def ranked(adata):
    fit()(adata)
    STEPS["rank_genes"](adata)


ONE_HALF = call(flda.tl.stability, n_resamples=1)
SEED = call(flda.tl.effect_tests, random_state=np.random.default_rng(0))
OVER_SCANPY = uns("mine", {"params": {"method": "wilcoxon"}})
MARK = "flda_augmented"
REFUSED = {
    "a slash in a key": (None, fit(key_added="a/b"), "'a/b'"),
    "an empty key": (None, fit(key_added=""), "key"),
    "a number for a key": (None, fit(key_added=1), "1"),
    "a dot for a key": (None, fit(key_added="."), "'.'"),
    "another tool's entry": (uns("flda", {"params": 1}), fit(), "'flda'"),
    "an entry that is a table": (uns("mine", pd.DataFrame()), fit(key_added="mine"), "'mine'"),
    "the embedding of another tool": (obsm("X_pca"), fit(key_added="pca"), "X_pca"),
    "a key that runs into another fit": (fit(), fit(key_added="flda_F"), "'flda'"),
    "a key that ends as a slot": (fit(key_added="a"), fit(key_added="a_sparse"), "'a'"),
    "a ranking over scanpy's": (OVER_SCANPY, call(flda.tl.rank_genes, key_added="mine"), "'mine'"),
    "a ranking over the fit": (fit(), call(flda.tl.rank_genes, key_added="flda"), "'flda'"),
    "a ranking with a slash": (fit(), call(flda.tl.rank_genes, key_added="a/b"), "'a/b'"),
    "predictions over a column": (obs("flda_axon"), lambda a: flda.tl.predict(a, REFERENCE), "'flda_axon'"),
    "signs over a fit": (fit(), call(flda.circuits.infer_signs, groupby="subtype", key_added="flda"), "'flda'"),
    "a generator": (None, fit(random_state=np.random.default_rng(0)), "Generator"),
    "an old generator": (None, fit(random_state=np.random.RandomState(0)), "RandomState"),
    "a seed below zero": (None, fit(random_state=-1), "-1"),
    "a seed that is no whole number": (None, fit(random_state=0.5), "float"),
    "a seed that is text": (None, fit(random_state="0"), "str"),
    "a generator for the tests": (fit(), SEED, "Generator"),
    "more genes than there are": (fit(), call(flda.tl.rank_genes, n_genes=13), "13"),
    "no genes": (fit(), call(flda.tl.rank_genes, n_genes=0), "n_genes"),
    "genes in words": (fit(), call(flda.tl.rank_genes, n_genes="many"), "many"),
    "half a gene": (fit(), call(flda.tl.rank_genes, n_genes=2.5), "2.5"),
    "more genes than the path has": (fit(), call(flda.tl.path, n_genes=[2, 40]), "40"),
    "raw counts": (None, fit(layer="counts"), "normalize_total"),
    "no such layer": (None, fit(layer="logs"), "'logs'"),
    "interactions=False": (None, fit(interactions=False), "interactions"),
    "interactions=True": (None, fit(interactions=True), "interactions"),
    "the donor as a factor": (None, fit(factors=["dendrite", "donor"], donor="donor"), "'donor'"),
    "no label at all": (obs_value("donor", None), fit(donor="donor"), "'donor' has no label"),
    "no factors": (None, call(flda.tl.flda, factors=[]), "factor"),
    "a factor and nuisance": (None, fit(nuisance=["axon"]), "'axon'"),
    "a simulated mark as a factor": (obs(MARK), call(flda.tl.flda, factors=[MARK]), MARK),
    "a penalty that is text": (None, fit(penalty="much"), "much"),
    "a penalty below zero": (None, fit(penalty=-1.0), "-1"),
    "a penalty for no effect": (None, fit(penalty={"zz": 1.0}), "'zz'"),
    "a shrinkage above one": (None, fit(shrinkage=2), "2"),
    "a mask of numbers": (None, fit(mask_var=np.arange(12)), "mask_var"),
    "no resamples": (fit(), call(flda.tl.effect_tests, n_resamples=0), "n_resamples"),
    "one fold": (fit(), call(flda.tl.certify, n_folds=1), "n_folds"),
    "one resample for stability": (ranked, ONE_HALF, "n_resamples"),
    "an effect that is not there": (fit(), call(flda.tl.effect_tests, effects=["zz"]), "'zz'"),
    "an axis that is not there": (fit(), call(flda.pl.scores, x="zz"), "'zz'"),
    "a colour that is not there": (fit(), call(flda.pl.scores, color="zz"), "'zz'"),
}  # fmt: skip
REFERENCE = BASE.copy()
flda.tl.flda(REFERENCE, FACTORS, **FIT)


def content(adata):
    """Everything in an AnnData that a call could have changed."""
    return {
        "X": adata.X.copy(), "obs": adata.obs.copy(), "var": adata.var.copy(), "uns": sorted(map(str, adata.uns)),
        "inner": {k: sorted(v) for k, v in adata.uns.items() if isinstance(v, dict)},
        "obsm": sorted(adata.obsm), "varm": sorted(adata.varm),
        "layers": {k: v.copy() for k, v in adata.layers.items()},
    }  # fmt: skip


def check_same(one, two):
    for name, value in one.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, two[name])
        elif name == "layers":
            for k, v in value.items():
                np.testing.assert_array_equal(sp.csr_matrix(v).toarray(), sp.csr_matrix(two[name][k]).toarray())
        else:
            np.testing.assert_equal(value, two[name])


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_before_the_work(kind):
    prepare, call, word = REFUSED[kind]
    adata = BASE.copy()
    if prepare is not None:
        prepare(adata)
    before = content(adata)
    sentence(lambda: call(adata), word)
    check_same(before, content(adata))


def backed(adata, folder):
    adata.write_h5ad(folder / "b.h5ad")
    return ad.read_h5ad(folder / "b.h5ad", backed="r")


def test_a_backed_anndata_answers_before_the_work(tmp_path):
    adata = backed(BASE, tmp_path)
    sentence(lambda: fit()(adata[:50]), "to_memory")
    sentence(lambda: fit(copy=True)(adata), "to_memory")
    fit()(adata)
    STEPS["held_out_scores"](adata)
    np.testing.assert_allclose(adata.obsm["X_flda"], REFERENCE.obsm["X_flda"], atol=1e-6)


def test_negative_values_are_said_and_kept():
    adata = BASE.copy()
    adata.raw = BASE
    adata.X = (adata.X - adata.X.mean(0)) / adata.X.std(0)
    with pytest.warns(flda.FLDAWarning, match=r"negative.*raw"):
        fit()(adata)
    assert any("negative" in text for text in Record(adata).warnings)
    fit()(adata.raw.to_adata())


def test_warnings_stay_with_the_step_that_gave_them():
    adata = BASE.copy()
    adata.obs.loc[adata.obs_names[:3], "axon"] = np.nan
    with pytest.warns(flda.FLDAWarning, match="'axon'") as caught:
        fit()(adata)
    assert all(w.filename == __file__ for w in caught)
    first = Record(adata).warnings
    assert len(first) == len(caught)
    STEPS["held_out_scores"](adata)
    assert Record(adata).warnings[: len(first)] == first
    adata.obs["axon"] = adata.obs["axon"].fillna("a")
    fit()(adata)
    assert not any("no label" in text for text in Record(adata).warnings)


def test_two_columns_of_one_name_are_refused():
    twice = pd.concat([BASE.obs, BASE.obs[["axon"]]], axis=1)
    sentence(lambda: fit()(ad.AnnData(BASE.X, twice, BASE.var)), "obs", "'axon'")


def test_levels_that_differ_in_spaces_are_said():
    adata = BASE.copy()
    adata.obs["axon"] = [f"{level}{' ' * (i % 2)}" for i, level in enumerate(adata.obs["axon"])]
    with pytest.warns(flda.FLDAWarning, match=r"'a' and 'a '"):
        fit()(adata)


def test_new_cells_need_names_of_genes_that_are_unique():
    reference, adata = REFERENCE.copy(), BASE.copy()
    reference.var_names = [BASE.var_names[1], *BASE.var_names[1:]]
    for step in (flda.tl.predict, flda.tl.transform):
        sentence(lambda step=step: step(adata, reference), BASE.var_names[1])


def test_a_gene_colours_the_scores(fitted, figures):
    gene = fitted.var_names[4]
    for axes in ((), ("axon_1",), ("axon_1", "axon_2")):
        ax = flda.pl.scores(fitted, *axes, color=gene)
        assert ax.figure.axes[-1].get_ylabel() == gene
        drawn = np.sort(
            np.concatenate([np.asarray(c.get_array()).ravel() for c in ax.collections if c.get_array() is not None])
        )
        cells = fitted.obs["axon"].notna() if axes == ("axon_1",) else slice(None)
        np.testing.assert_allclose(drawn, np.sort(fitted[cells, gene].X.ravel()))
    sentence(lambda: flda.pl.scores(fitted, color="zz"), "'zz'")


def test_later_steps_do_not_repeat_what_the_fit_has_said():
    adata = BASE[~((BASE.obs["axon"] == "d") & (BASE.obs["dendrite"] == "T5"))].copy()
    with pytest.warns(flda.FLDAWarning, match="left out"):
        flda.tl.flda(adata, FACTORS, shrinkage=0.5)
    texts = Record(adata).warnings
    with warnings.catch_warnings(action="error"):
        STEPS["certify"](adata)
        LONG["choose_penalty"](adata)
    assert Record(adata).warnings == texts
    with pytest.warns(flda.FLDAWarning, match="left out"):  # but a call outside of the steps does
        flda.FLDA(shrinkage=0.5).fit(adata.X, adata.obs[FACTORS])


def locked(M):
    """The matrix with memory that cannot be written to."""
    for part in (M.data, M.indices, M.indptr) if sp.issparse(M) else (M,):
        part.flags.writeable = False
    return M


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_no_step_writes_into_memory_of_the_user(form):
    X, counts = locked(form(BASE.X.copy())), locked(sp.csr_matrix(BASE.layers["counts"].toarray() + 1))
    adata = ad.AnnData(X, BASE.obs.copy(), BASE.var.copy(), layers={"counts": counts})
    adata.var_names = ["VAChT", *adata.var_names[1:]]
    net = NET.assign(target=adata.var_names[:5])
    fit()(adata)
    for name, step in {**STEPS, **LONG}.items():
        step(adata) if name != "gene_sets" else flda.tl.gene_sets(adata, net, n_resamples=3, min_genes=2)
    flda.tl.transform(adata, adata)
    flda.tl.predict(adata, adata)
    with warnings.catch_warnings(action="ignore"):
        flda.circuits.infer_signs(adata, "subtype")
        if not sp.issparse(X):  # X has to be the logs of the counts of these genes
            flda.simulate.fit_counts(adata, FACTORS, layer="counts")
    np.testing.assert_array_equal(X.toarray() if sp.issparse(X) else X, BASE.X)
    plt.close("all")
