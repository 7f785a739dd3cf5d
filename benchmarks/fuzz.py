"""Random AnnData through the whole pipeline: no traceback, nothing of the input changed, no stale number.

Every case draws a small AnnData (kind of matrix, kinds and names of labels, missing labels, donors, layers, a slice),
options, and an order of calls, between which the data may change. A case is right if every call either works or ends
in a ValueError of one sentence; if no warning but those of flda is shown; if matrix, labels and parent are what they
were; and if, whenever a step that uses the data went on after a change, the stored axes are those of a new fit.

    python benchmarks/fuzz.py --cases 1000 --seed 0
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections import Counter

import anndata as ad
import joblib
import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy.sparse as sp

import flda

NAMES = ["site", "drug 1", "dösis", "a/b", "50%", "group", "index", "0", "cells", "x.y"]
LEVELS = [["a", "b"], ["x", "y", "z"], ["1", "2"], ["", "nan"], ["α β", "<b>"], ["a/b", "a:b"], ["no", "yes", "p&q"]]
KEYS = ["flda", "flda", "flda", "fit2", "my key", "pca", "flda_F"]


def matrix(rng: np.random.Generator, X: np.ndarray):
    """Return the values in a random form that an AnnData holds."""
    kinds = [
        np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.asfortranarray, stored_zeros, duplicates,
        lambda X: X.astype(np.float32), lambda X: sp.csr_matrix(X.astype(np.float32)), chunks,
    ]  # fmt: skip
    return kinds[rng.integers(len(kinds))](X)


def stored_zeros(X: np.ndarray) -> sp.csr_matrix:
    """Return CSR in which every entry is stored."""
    out = sp.csr_matrix(np.ones(X.shape))
    out.data = X.ravel().copy()
    return out


def duplicates(X: np.ndarray) -> sp.csr_matrix:
    """Return CSR that lists every entry as two halves."""
    X = sp.csr_matrix(X)
    indices = np.concatenate([np.tile(part, 2) for part in np.split(X.indices, X.indptr[1:-1])])
    data = np.concatenate([np.tile(part, 2) for part in np.split(X.data, X.indptr[1:-1])])
    return sp.csr_matrix((data / 2, indices, 2 * X.indptr), shape=X.shape)


def chunks(X: np.ndarray):
    """Return a dask array, or the array itself without dask."""
    try:
        import dask.array as da
    except ImportError:
        return X
    return da.from_array(X, chunks=(17, -1))


def values(rng: np.random.Generator, N: int, p: int) -> np.ndarray:
    """Return expression: logs, logs with constant and perfect genes, z-scores, counts, or with a value that is none."""
    X = np.log1p(rng.poisson(rng.gamma(2.0, 1.0, (1, p)), (N, p)) * rng.uniform(0.5, 2.0, (N, 1)))
    kind = rng.choice(["logs", "logs", "logs", "constant", "scaled", "counts", "huge", "missing", "zero"])
    if kind == "constant":
        X[:, 0] = rng.integers(2)
    elif kind == "scaled":
        X = (X - X.mean(0)) / np.maximum(X.std(0), 1e-9)
    elif kind == "counts":
        X = np.round(np.expm1(X))
    elif kind == "huge":
        X *= 10.0 ** rng.integers(2, 30)
    elif kind == "missing":
        X[rng.integers(N), rng.integers(p)] = rng.choice([np.nan, np.inf])
    elif kind == "zero":
        X *= 0
    return X


def column(rng: np.random.Generator, N: int) -> pd.Series:
    """Return the labels of one factor in a random form, sometimes with missing ones."""
    levels = np.array(LEVELS[rng.integers(len(LEVELS))], dtype=object)
    labels = pd.Series(levels[rng.permutation(np.arange(N) % len(levels))])
    if rng.random() < 0.15:
        labels[rng.random(N) < 0.1] = np.nan
    form = rng.choice(["object", "category", "string", "more", "bool", "number"])
    if form == "bool" and labels.notna().all():
        return labels == levels[0]
    if form == "number":
        return labels.map({level: float(i) for i, level in enumerate(levels)})
    if form == "more":
        return labels.astype(pd.CategoricalDtype([*levels, "unused"]))
    return labels.astype(str if form == "bool" else form)


def draw(rng: np.random.Generator) -> tuple[ad.AnnData, dict]:
    """Return a random AnnData and the options of a fit."""
    N, p = int(rng.integers(18, 60)), int(rng.integers(3, 11))
    names = list(rng.choice(NAMES, size=2, replace=False))
    obs = pd.DataFrame({name: column(rng, N).to_numpy() for name in names[: rng.integers(1, 3)]})
    for name in obs:
        if rng.random() < 0.5:
            obs[name] = obs[name].astype("category")
    factors = list(obs)
    obs["donor"] = [f"d{i % 5}" for i in range(N)]
    obs["age"] = rng.normal(size=N)
    X = values(rng, N, p)
    if np.isfinite(X).all():
        with np.errstate(over="ignore"):
            X = X + np.where(obs[factors[0]].astype(str) == str(obs[factors[0]].iloc[0]), 1.0, 0.0)[:, None] * (
                np.arange(p) == 1
            )
    adata = ad.AnnData(matrix(rng, X), obs.set_axis([f"c{i}" for i in range(N)]))
    adata.var_names = [f"g{j}" for j in range(p)]
    adata.layers["counts"] = sp.csr_matrix(rng.poisson(2.0, (N, p)).astype(float))
    adata.var["use"] = rng.random(p) < 0.8
    if rng.random() < 0.2:
        adata.obsm["X_pca"] = np.zeros((N, 2))
    options = {
        "factors": factors, "key_added": str(rng.choice(KEYS)), "random_state": int(rng.integers(5)),
        "interactions": [None, "all", "all", "estimable"][rng.integers(4)],
        "shrinkage": [0.5, 0.5, 0.0, 1.0, "auto", "oas"][rng.integers(6)],
    }  # fmt: skip
    further = [
        ("donor", "donor", 0.2), ("mask_var", "use", 0.2), ("layer", "counts", 0.1), ("allow_counts", True, 0.3),
        ("nuisance", ["age"], 0.15), ("objective", "difference", 0.2), ("group_means", "shrunken", 0.2),
        ("copy", True, 0.1), ("n_components", 1, 0.1),
    ]  # fmt: skip
    options |= {name: value for name, value, share in further if rng.random() < share}
    if "nuisance" in options:
        options["numeric"] = ["age"]
    return adata, options


def content(adata: ad.AnnData) -> str:
    """Return a hash of what belongs to the user."""
    X = adata.X.compute() if hasattr(adata.X, "compute") else adata.X
    obs = adata.obs[[c for c in ("donor", "age", *NAMES) if c in adata.obs]]
    parts = [
        [np.array(part) for part in ((M.data, M.indices, M.indptr) if sp.issparse(M) else (M,))]
        for M in (X, adata.layers["counts"])
    ]
    pca = "X_pca" in adata.obsm and not np.any(adata.obsm["X_pca"])  # zeros of another tool
    texts = [obs.astype(object).to_csv(), str(obs.dtypes.to_dict()), ",".join(adata.var_names)]
    return joblib.hash((parts, pca)) + "".join(texts)


def first_levels(adata: ad.AnnData) -> dict[str, object]:
    """Return a level of the first factor that the AnnData has."""
    factor = next(name for name in NAMES if name in adata.obs)
    return {factor: adata.obs[factor].dropna().iloc[0]}


def steps(rng: np.random.Generator, key: str) -> list[tuple[str, object]]:
    """Return the calls after the fit, in random order."""
    every = [
        ("rank_genes", lambda a: flda.tl.rank_genes(a, n_genes=int(rng.integers(1, 5)), gap_effort=0, key=key)),
        ("effect_tests", lambda a: flda.tl.effect_tests(a, n_resamples=3, key=key)),
        ("held_out_scores", lambda a: flda.tl.held_out_scores(a, n_folds=2, key=key)),
        ("certify", lambda a: flda.tl.certify(a, n_folds=2, key=key)),
        ("predict", lambda a: flda.tl.predict(a, a, key=key)),
        ("transform", lambda a: flda.tl.transform(a[::2].copy(), a, key=key)),
        ("axes_df", lambda a: flda.get.axes_df(a, key=key)),
        ("rank_genes_df", lambda a: flda.get.rank_genes_df(a, key=key)),
        ("variance_df", lambda a: flda.get.variance_df(a, key=key)),
        ("pl.scores", lambda a: flda.pl.scores(a, key=key)),
        ("panel", lambda a: flda.tl.panel(a, int(rng.integers(1, 6)), key=key)),
        ("stability", lambda a: flda.tl.stability(a, n_resamples=2, n_bootstraps=2, key=key)),
        ("counterfactual", lambda a: flda.tl.counterfactual(a, first_levels(a), key=key)),
        ("gene_sets", lambda a: flda.tl.gene_sets(a, SETS, n_resamples=3, min_genes=1, key=key)),
        ("gene_tests_df", lambda a: flda.get.gene_tests_df(a, key=key)),
        ("report.render", lambda a: flda.report.render(a, figures=[], key=key)),
        ("change", None),
        ("change", None),
    ]
    return [every[i] for i in rng.permutation(len(every))[: rng.integers(2, 9)]]


SETS = pd.DataFrame({"source": [*"aaabb"], "target": [f"g{j}" for j in (0, 1, 2, 1, 3)]})
READS_DATA = {"rank_genes", "effect_tests", "held_out_scores", "certify", "panel", "stability", "gene_sets"}


def change(rng: np.random.Generator, adata: ad.AnnData, factor: str) -> ad.AnnData:
    """Return the AnnData after something that users do to it between two calls."""
    kind = rng.integers(8)
    if kind == 0:
        return adata[rng.permutation(adata.n_obs)].copy()
    if kind == 1:
        return adata[:, rng.permutation(adata.n_vars)].copy()
    if kind == 2:
        return adata[rng.random(adata.n_obs) < 0.8]
    if kind == 3:
        return adata[:, rng.random(adata.n_vars) < 0.8].copy()
    adata = adata.copy()
    if kind == 4:
        adata.X = adata.X * 3.0
    elif kind == 5:
        adata.obs[factor] = adata.obs[factor].to_numpy()[rng.permutation(adata.n_obs)]
    elif kind == 6:
        dense = adata.X.compute() if hasattr(adata.X, "compute") else adata.X
        adata.X = sp.csr_matrix(dense) if not sp.issparse(dense) else dense.toarray()
    elif kind == 7:
        adata = ad.concat([adata[: adata.n_obs // 2], adata[adata.n_obs // 2 :]], merge="same", uns_merge="same")
    return adata


def check_fresh(adata: ad.AnnData, options: dict) -> None:
    """Compare the stored loadings with those of a new fit to the data that are there now."""
    key = options["key_added"]
    new = ad.AnnData(adata.X, adata.obs.copy(), adata.var[["use"]].copy(), layers={"counts": adata.layers["counts"]})
    flda.tl.flda(new, **{**options, "key_added": "fresh", "copy": False})
    old, found = adata.varm[key], new.varm["fresh"]
    if old.shape != found.shape:
        raise AssertionError(f"stale: {old.shape} loadings are stored, and a new fit gives {found.shape}")
    sd = new.var["fresh_within_sd"].fillna(0).to_numpy()[:, None]
    gap = np.abs(np.abs(old * sd) - np.abs(found * sd)).max()
    values = adata.uns[key]["axes"]["eigenvalue"].to_numpy()
    distinct = len(values) < 2 or np.min(np.abs(np.diff(np.sort(values)))) > 1e-3 * np.abs(values).max()
    if distinct and options["shrinkage"] != "auto" and gap > 1e-3:
        raise AssertionError(f"stale: standardised loadings differ by {gap:.2g} from those of a new fit")


def attempt(name: str, call) -> tuple[object, str | None]:
    """Return the result of a call, and its refusal if it was one; anything else is a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", flda.FLDAWarning)
        for module in ("anndata", "zarr", "dask"):
            warnings.filterwarnings("ignore", module=module)
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            return call(), None
        except ValueError as error:
            text = str(error).strip()
            if "\n" in text or len(text) > 600 or not text:
                raise AssertionError(f"{name}: the message is not one sentence: {text[:300]}") from error
            frame = traceback.extract_tb(error.__traceback__)[-1]
            if "/flda/" not in frame.filename.replace("\\", "/"):
                raise AssertionError(f"{name}: {frame.filename}:{frame.lineno} raised {text[:200]}") from error
            return None, text


def run(seed: int) -> Counter:
    """Run one case; returns how its calls ended."""
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(seed)
    parent, options = draw(rng)
    adata = parent
    if rng.random() < 0.25:
        adata = parent[rng.random(parent.n_obs) < 0.9]
    before, of_parent, key = content(adata), content(parent), options["key_added"]
    ends: Counter = Counter()
    result, refused = attempt("flda", lambda: flda.tl.flda(adata, **options))
    ends["flda", "refused" if refused else "done"] += 1
    assert content(adata) == before, "flda: the input was changed"
    if refused:
        assert not adata.uns, f"flda was refused and left {list(adata.uns)}"
        return ends
    adata = result if options.get("copy") else adata
    changed = False
    for name, call in steps(rng, key):
        if name == "change":
            adata, changed = change(rng, adata, options["factors"][0]), True
            continue
        before, holder = content(adata), adata
        _, refused = attempt(name, lambda call=call, holder=holder: call(holder))
        ends[name, "refused" if refused else "done"] += 1
        assert content(adata) == before, f"{name}: the input was changed"
        if changed and not refused and name in READS_DATA:
            attempt("new fit", lambda holder=holder: check_fresh(holder, options))
            ends["compared with a new fit", "done"] += 1
    assert content(parent) == of_parent, "the parent of a view was changed"
    if parent is not adata and not options.get("copy") and parent.uns:
        assert adata.uns is not parent.uns
    plt.close("all")
    return ends


def main(argv: list[str] | None = None) -> int:
    """Run the cases and print the faults, and how the calls ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case")
    args = parser.parse_args(argv)
    mpl.use("Agg")
    ends: Counter = Counter()
    faults = 0
    for seed in range(args.seed, args.seed + args.cases):
        try:
            ends += run(seed)
        except Exception as error:  # noqa: BLE001  every kind of fault is what is looked for
            faults += 1
            at = [f for f in traceback.extract_tb(error.__traceback__) if "/flda/" in f.filename]
            where = f" ({at[-1].filename.rpartition('/flda/')[2]}:{at[-1].lineno})" if at else ""
            print(f"case {seed}: {type(error).__name__}: {str(error)[:300]}{where}", flush=True)
    for (name, end), n in sorted(ends.items()):
        print(f"{name:<28} {end:<8} {n}")
    print(f"{faults} faults in {args.cases} cases, Python {sys.version.split()[0]}")
    return int(faults > 0)


if __name__ == "__main__":
    raise SystemExit(main())
