"""Inputs as users have them, against every function that takes them: the right result, or one clear sentence.

A *kind* is a form of X, of labels, of an AnnData, or a change after the fit; a *door* is a function that it enters by.
A cell of the table is right if the result is that of the plain form, and nothing of the user's was changed; or if the
error is a ValueError of one sentence that names what is wrong.
"""

import copy

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

import flda
from flda import FLDA, SparseFLDA
from flda.circuits import SignedLinear, SignMask, audit_signs, infer_signs
from flda.inference import (
    bootstrap,
    certify,
    depth_check,
    effect_tests,
    gene_set_tests,
    stability_selection,
)

from array_kinds import dask_of

N, P = 48, 6
RNG = np.random.default_rng(3)
Y = pd.DataFrame({"site": np.repeat(["in", "out"], N // 2), "drug": np.tile(["a", "b"], N // 2)})
X = np.round(RNG.gamma(2.0, 1.0, (N, P)) * (RNG.random((N, P)) < 0.6), 2)
X[:, 0] += 2 * (Y["site"] == "in")
X[:, 1] += 2 * (Y["drug"] == "b")
X = X.astype(np.float16).astype(float)  # values that every type of numbers holds
FACTORS = ["site", "drug"]
DENSE = FLDA(shrinkage=0.5, interactions=None)
FEW = SparseFLDA(n_genes=1, shrinkage=0.5, interactions=None, gap_effort=0)

DOORS = {
    "FLDA.fit": lambda X, y: DENSE.fit(X, y).components_,
    "SparseFLDA.fit": lambda X, y: FEW.fit(X, y).components_,
    "transform": lambda X, y: FLDA(shrinkage=0.5).fit(X, y).transform(X),
    "score": lambda X, y: FLDA(shrinkage=0.5, interactions=None).fit(X, y).score(X, y),
    "certify": lambda X, y: certify(DENSE, X, y, n_folds=2)[["snr", "crosstalk"]],
    "effect_tests": lambda X, y: effect_tests(DENSE, X, y, n_resamples=5).genes["pval"],
    "gene_set_tests": lambda X, y: gene_set_tests(DENSE, X, y, sets={"s": {0: 1.0, 2: 1.0}}, n_resamples=5)["z"],
    "stability_selection": lambda X, y: stability_selection(FEW, X, y, n_resamples=2).genes["frequency"],
    "bootstrap": lambda X, y: bootstrap(FEW, X, y, n_resamples=3).loadings["loading"],
    "depth_check": lambda X, y: depth_check(X, y)["ratio"],
}
PLAIN = X.copy()
EXPECTED = {name: np.asarray(door(PLAIN, Y)) for name, door in DOORS.items()}
NAMES = [f"g{j}" for j in range(P)]


def sentence(call, *words):
    """The call is refused in one sentence, short enough to read, that holds the words."""
    with pytest.raises(ValueError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text.strip(), text
    assert len(text) < 500, text
    for word in words:
        assert word in text, f"{word!r} not in {text!r}"


def in_file(X, folder):
    return h5py.File(folder / "x.h5", "w").create_dataset("X", data=X)


def backed(X, folder, view=False):
    ad.AnnData(sp.csr_matrix(X)).write_h5ad(folder / "x.h5ad")
    return ad.read_h5ad(folder / "x.h5ad", backed="r").X


def mapped(X, folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r")


def read_only(X, folder=None):
    X = X.copy()
    X.flags.writeable = False
    return X


def stored_zeros(X, folder=None):
    out = sp.csr_matrix(np.ones(X.shape))
    out.data = X.ravel().copy()
    return out


def coo_twice(X, folder=None):
    half = sp.coo_matrix(X / 2)
    return sp.coo_matrix((np.tile(half.data, 2), (np.tile(half.row, 2), np.tile(half.col, 2))), shape=X.shape)


def view(X):
    """What ``adata[cells].X`` is."""
    double = sp.vstack([X, X]).tocsr() if sp.issparse(X) else X
    adata = ad.AnnData(double)
    return adata[: len(Y) if sp.issparse(X) else X.shape[0]].X


def dask_view(X):
    return ad.AnnData(X)[np.arange(N) >= 0].X


FORMS = {
    "DataFrame": lambda X, _: pd.DataFrame(X, columns=NAMES),
    "DataFrame with numbers for names": lambda X, _: pd.DataFrame(X),
    "DataFrame of sparse columns": lambda X, _: pd.DataFrame.sparse.from_spmatrix(sp.csc_matrix(X), columns=NAMES),
    "DataFrame of nullable numbers": lambda X, _: pd.DataFrame(X, columns=NAMES).astype("Float64"),
    "DataFrame with names of cells": lambda X, _: pd.DataFrame(X, index=[f"c{i}" for i in range(N)], columns=NAMES),
    "np.matrix": lambda X, _: X.view(np.matrix),
    "objects": lambda X, _: X.astype(object),
    "tuples": lambda X, _: tuple(map(tuple, X)),
    "read-only": read_only,
    "strided": lambda X, _: np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2],
    "reversed memory": lambda X, _: X[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda X, _: X.astype(">f8"),
    "float16": lambda X, _: X.astype(np.float16),
    "long double": lambda X, _: X.astype(np.longdouble),
    "memory map": mapped,
    "HDF5 dataset": in_file,
    "Zarr array": lambda X, _: zarr.array(X),
    "backed CSR": backed,
    "view of an AnnData": lambda X, _: ad.AnnData(X)[:].X,
    "view of a sparse AnnData": lambda X, _: view(sp.csr_matrix(X)),
    "view of dask": lambda X, _: dask_view(dask_of(X, 20)),
    "view of sparse dask": lambda X, _: dask_view(dask_of(sp.csr_matrix(X), 20)),
    "stored zeros": stored_zeros,
    "COO with duplicates": coo_twice,
    "BSR": lambda X, _: sp.bsr_matrix(X),
    "DIA": lambda X, _: sp.dia_matrix(X),
    "LIL": lambda X, _: sp.lil_matrix(X),
    "DOK": lambda X, _: sp.dok_matrix(X),
    "masked array without masked values": lambda X, _: np.ma.masked_array(X, np.zeros(X.shape, bool)),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("kind", FORMS)
def test_forms_of_a_matrix(kind, tmp_path):
    form = FORMS[kind](X.copy(), tmp_path)
    before = copy.deepcopy(form) if not type(form).__module__.startswith(("h5py", "zarr", "anndata", "dask")) else None
    for name, door in DOORS.items():
        found = np.asarray(door(form, Y))
        np.testing.assert_allclose(found, EXPECTED[name], rtol=1e-6, atol=1e-8, err_msg=name)
    if sp.issparse(before) and hasattr(before, "indices"):
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(form, part), getattr(before, part))
    elif before is not None and not sp.issparse(before):
        np.testing.assert_array_equal(np.asarray(form, dtype=float), np.asarray(before, dtype=float))


WRONG = {
    "masked values": (np.ma.masked_array(X, X > 5), "masked"),
    "an AnnData": (ad.AnnData(X), "AnnData"),
    "text": (X.astype(str).astype(object) + "x", "X must hold numbers"),
    "a text column": (pd.DataFrame(X, columns=NAMES).assign(g3="much"), "much"),
    "one dimension": (X[:, 0], "1"),
    "three dimensions": (X[None], "3"),
    "complex": (X + 1j, "omplex"),
    "NaN": (np.where(X[5, 5] == X, np.nan, X), "NaN"),
    "infinity": (np.where(X[5, 5] == X, np.inf, X), "inf"),
    "no genes": (X[:, :0], "0"),
    "fewer rows": (X[:-1], str(N - 1)),
    "rows of a table in another order": (pd.DataFrame(X)[::-1], "order"),
    "no matrix": (7.0, "X"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_matrix(kind):
    bad, word = WRONG[kind]
    for door in DOORS.values():
        sentence(lambda door=door: door(bad, Y), word)


S, D = Y["site"], Y["drug"]
LABELS = {
    "numbers for names": Y.set_axis([0, 1], axis=1),
    "tuples for names": Y.set_axis(pd.MultiIndex.from_tuples([("m", "site"), ("m", "drug")]), axis=1),
    "nullable text": Y.astype("string"),
    "nullable booleans": pd.DataFrame({"site": (S == "out").astype("boolean"), "drug": (D == "b").astype("boolean")}),
    "nullable integers": pd.DataFrame({"site": (S == "out").astype("Int8"), "drug": (D == "b").astype("Int64")}),
    "booleans": pd.DataFrame({"site": S == "out", "drug": D == "b"}),
    "whole floats": pd.DataFrame({"site": (S == "out") * 2.0, "drug": (D == "b") + 0.5}),
    "dates": pd.DataFrame({"site": pd.to_datetime(np.where(S == "in", "2024-01-01", "2024-06-01")), "drug": D}),
    "categories in use and not": Y.astype(pd.CategoricalDtype(["zz", "in", "out", "a", "b"])),
    "ordered categories": pd.DataFrame({"site": pd.Categorical(S, ordered=True), "drug": pd.Categorical(D)}),
    "categories of numbers": pd.DataFrame({"site": pd.Categorical((S == "out") * 10), "drug": D}),
    "an object array": Y.to_numpy(),
    "lists": Y.to_numpy().tolist(),
    "masked array without masked values": np.ma.masked_array(Y.to_numpy(), np.zeros((N, 2), bool)),
    "text that reads as missing": Y.replace({"in": "NaN", "out": "nan", "a": "", "b": "None"}),
    "text with signs": Y.replace({"in": "a/b: 50 %", "out": "ü × «x»", "a": "$x_1$", "b": "<b>"}),
    "names that pandas and scanpy use": Y.set_axis(["index", "groups"], axis=1),
    "names with signs": Y.set_axis(["a/b", "50 % ü"], axis=1),
    "names of numbers": Y.set_axis(["0", "1.5"], axis=1),
    "an index of text": Y.set_axis([f"c{i}" for i in range(N)]),
    "an index that is not unique": Y.set_axis(np.zeros(N, int)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_forms_of_labels(kind):
    y = LABELS[kind]
    before = copy.deepcopy(y)
    for name, door in DOORS.items():
        found, expected = np.asarray(door(X, y)), EXPECTED[name]
        # levels may be in another order, which changes signs of nothing: the largest loading is positive
        np.testing.assert_allclose(np.sort(found, axis=None), np.sort(expected, axis=None), rtol=1e-6, err_msg=name)
    assert before.equals(y) if isinstance(y, pd.DataFrame) else np.array_equal(before, y)


NO_LABELS = {
    "two columns of one name": (Y.set_axis(["site", "site"], axis=1), "'site'"),
    "masked labels": (np.ma.masked_array(Y.to_numpy(), Y.to_numpy() == "a"), "'factor1'"),
    "missing labels": (Y.where(Y != "a"), "'drug'"),
    "nullable missing labels": (Y.astype("string").where(Y != "a"), "'drug'"),
    "a column of our own tables": (Y.rename(columns={"site": "n_cells", "drug": "score"}), "'n_cells'"),
    "the last row of the variances": (Y.rename(columns={"drug": "within"}), "'within'"),
    "the colon": (Y.rename(columns={"drug": "a:b"}), "'a:b'"),
    "one level": (Y.assign(drug="a"), "'drug'"),
    "measurements": (Y.assign(drug=np.linspace(0, 1, N)), "'drug'"),
    "text and numbers": (Y.assign(drug=[1, "a"] * (N // 2)), "'drug'"),
    "equal columns": (Y.assign(drug=Y["site"]), "'drug'"),
    "a level for every cell": (Y.assign(drug=[f"c{i}" for i in range(N)]), "'drug'"),
    "fewer rows": (Y[:-1], str(N - 1)),
    "three dimensions": (np.zeros((N, 1, 2)), "3"),
}


@pytest.mark.parametrize("kind", NO_LABELS)
def test_what_are_no_labels(kind):
    y, word = NO_LABELS[kind]
    for door in DOORS.values():
        sentence(lambda door=door: door(X, y), word)


EDGES = pd.DataFrame({"pre": ["1", "2", "2"], "post": ["8", "8", "9"], "sign": [1.0, 1.0, np.nan], "n_synapses": 5})
SIGNS = pd.Series({"1": 1.0, "2": -1.0})
TABLES = {
    "text": EDGES,
    "categories": EDGES.astype({"pre": "category", "post": "category"}),
    "categories not in use": EDGES.assign(pre=pd.Categorical(EDGES["pre"], categories=["1", "2", "7"])),
    "numbers": EDGES.astype({"pre": int, "post": int}),
    "nullable numbers": EDGES.astype({"pre": "Int64", "post": "Int64"}),
    "nullable text": EDGES.astype({"pre": "string", "post": "string"}),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("names", [str, int])
def test_forms_of_edges(kind, names):
    signs = SIGNS.set_axis(SIGNS.index.map(names))
    found = audit_signs(TABLES[kind], signs)
    assert found["verdict"].tolist() == ["agree", "conflict", "no sign"]
    mask = SignMask.from_types(signs, TABLES[kind].drop(columns="sign"))
    assert mask.values.to_dict() == {"8": {"1": 1.0, "2": -1.0}, "9": {"1": 0.0, "2": -1.0}}


def test_edges_without_a_partner_are_left_out_and_said():
    edges = pd.concat([EDGES, EDGES.assign(pre=None)[:1]])
    with pytest.warns(flda.FLDAWarning, match="1 of 4 edges"):
        assert len(audit_signs(edges, SIGNS)) == 3
    with pytest.warns(flda.FLDAWarning, match="1 of 4 edges"):
        assert SignMask.from_types(SIGNS, edges).values.index.tolist() == ["1", "2"]


def test_named_signs_go_with_named_inputs():
    inputs = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["u", "v", "w"])
    response = 2 * inputs["u"] - inputs["v"] + 0.5 * inputs["w"]
    for signs in (pd.Series({"w": 1.0, "v": -1.0, "u": 1.0}), pd.Series([1.0, -1.0, 1.0]), [1, -1, 1]):
        np.testing.assert_allclose(SignedLinear(signs).fit(inputs, response).coef_, [2, -1, 0.5], atol=1e-6)
    sentence(lambda: SignedLinear(pd.Series({"u": 1.0, "v": 1.0, "z": 1.0})).fit(inputs, response), "'w'")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_signs_from_files_and_views(tmp_path):
    genes = ["VAChT", "Gad1", "VGlut", "other"]
    levels = np.tile([[9.0, 0.0, 0.0, 900.0], [0.0, 7.0, 0.0, 900.0]], (20, 1))
    obs = pd.DataFrame({"type": ["p", "q"] * 20}, index=[f"c{i}" for i in range(40)])
    twice = ad.AnnData(sp.csr_matrix(levels), obs, var=pd.DataFrame(index=genes))
    twice.write_h5ad(tmp_path / "x.h5ad")
    expected = infer_signs(twice, "type")
    for adata in (
        twice[:],
        ad.read_h5ad(tmp_path / "x.h5ad", backed="r"),
        ad.experimental.read_lazy(tmp_path / "x.h5ad"),
        ad.AnnData(stored_zeros(levels), obs, var=pd.DataFrame(index=genes)),
    ):
        pd.testing.assert_frame_equal(infer_signs(adata, "type"), expected)
