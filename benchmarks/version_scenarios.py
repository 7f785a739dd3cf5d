"""Run the computations of flda on frozen inputs and write every number; compare_versions.py runs this twice.

    PYTHONPATH=TREE python benchmarks/version_scenarios.py OUT [--only WORD]

Writes ``OUT/numbers.npz``, one array per ``scenario|quantity``, and ``OUT/about.json``. The inputs are drawn here with
numpy, from fixed seeds, so that they do not depend on the version of flda that is measured. The text below uses the
names of version 0.2; the three tables at the top give those of version 0.1.
"""

from __future__ import annotations

import argparse
import inspect
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, read_h5ad

# --- what version 0.1 called differently ----------------------------------------------------------------------

FUNCTIONS = {  # name in 0.2 -> name in 0.1
    "inference.certify": "validate.certify",
    "inference.choose_penalty": "validate.choose_penalty",
    "inference.effect_tests": "inference.permutation_test",
    "tl.effect_tests": "tl.permutation_test",
    "_data.arrays.Stream": "arrays.Stream",
    "_solve.prior.borrow_means": "factorial.borrow_means",
}
ARGUMENTS = {  # argument in 0.2 -> the arguments that it replaces
    "donor": ("groups",),
    "n_bootstraps": ("n_boots",),
    "n_components": ("n_comps",),
    "n_resamples": ("n_perms", "n_halves", "n_boots"),
}
FIELDS = {  # columns, slots, attributes and parameters: name in 0.1 -> name in 0.2
    "n_boots": "n_bootstraps",
    "n_comps": "n_components",
    "n_halves": "n_resamples",
    "n_perms": "n_resamples",
    "permutation": "tests",
    "twins": "collinear",
}


def find(name: str) -> Any:
    """A public object by its name in 0.2, wherever this version keeps it."""
    for candidate in (name, FUNCTIONS.get(name)):
        if candidate is None:
            continue
        *modules, last = candidate.split(".")
        try:
            module = import_module(".".join(["flda", *modules]))
        except ModuleNotFoundError:
            continue
        if hasattr(module, last):
            found = getattr(module, last)
            # the objective of the paper was the only one of 0.1
            if last in ("FLDA", "SparseFLDA", "flda") and "objective" in inspect.signature(found).parameters:
                return partial(found, objective="difference")
            return found
    raise AttributeError(f"this version of flda has no {name}")


def call(name: str, *args: Any, **options: Any) -> Any:
    """Call a function with the arguments of 0.2, under the names that this version gives them."""
    function = find(name)
    known = inspect.signature(function).parameters
    named = {next((a for a in (option, *ARGUMENTS.get(option, ())) if a in known), option): value
             for option, value in options.items()}  # fmt: skip
    return function(*args, **named)


def field(thing: Any, name: str) -> Any:
    """An attribute by its name in 0.2, or by that in 0.1."""
    old = [before for before, now in FIELDS.items() if now == name]
    return getattr(thing, next((n for n in (name, *old) if hasattr(thing, n)), name))


# --- frozen inputs --------------------------------------------------------------------------------------------


@dataclass
class Problem:
    """Cells x genes, labels, and the arguments that say what they are."""

    X: Any
    y: pd.DataFrame
    donors: np.ndarray | None = None
    nuisance: tuple[str, ...] = ()
    interactions: str | list[str] = "all"

    @property
    def factors(self) -> list[str]:
        return [c for c in self.y if c not in self.nuisance]

    def adata(self) -> AnnData:
        obs = self.y.copy()
        if self.donors is not None:
            obs["donor"] = pd.Categorical(self.donors)
        obs.index = [f"cell_{i:04d}" for i in range(len(obs))]
        var = pd.DataFrame(index=[f"gene_{j:04d}" for j in range(self.X.shape[1])])
        adata = AnnData(self.X.copy(), obs=obs, var=var)
        adata.uns["log1p"] = {"base": None}
        return adata


def labels(codes: Mapping[str, np.ndarray], levels: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({f: pd.Categorical.from_codes(c, levels[f].split()) for f, c in codes.items()})


def t4t5(n_cells: int = 360, n_genes: int = 150, depth: float = 1.5, seed: int = 1) -> Problem:
    """Log-normalised counts of T4/T5-like cells, CSR in single precision, with four donors that have all groups."""
    rng = np.random.default_rng(seed)
    group = np.r_[
        np.repeat(np.arange(8), 8), rng.choice(8, n_cells - 64, p=[0.2, 0.12, 0.08, 0.15, 0.13, 0.1, 0.13, 0.09])
    ]
    rng.shuffle(group)
    dendrite, axon, donor = group // 4, group % 4, rng.integers(4, size=n_cells)
    log_mean = rng.normal(-1.0, 1.0, n_genes)
    log_mean[:30] = 0.0
    log_mu = np.tile(log_mean, (n_cells, 1)) + rng.normal(0, 0.3, (n_cells, 3)) @ rng.normal(0, 0.5, (3, n_genes))
    log_mu[:, :10] += np.where(dendrite, 0.8, -0.8)[:, None]
    log_mu[:, 10:22] += rng.normal(0, 1, (4, 12))[axon]
    log_mu[:, 22:30] += rng.normal(0, 0.8, (8, 8))[group]
    log_mu += rng.normal(0, 0.1, (4, n_genes))[donor]
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + depth * np.exp(log_mu))).astype(np.float64)
    counts[:, -2] = 0  # one gene is never expressed
    counts[:, -1] += counts.sum(axis=1) == 0
    X = np.log1p(1e3 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    y = labels({"dendrite": dendrite, "axon": axon}, {"dendrite": "T4 T5", "axon": "a b c d"})
    return Problem(sp.csr_matrix(X), y, np.array([f"fly{d}" for d in donor]))


def threeway(seed: int = 2) -> Problem:
    """Three factors, 2 x 3 x 3 with two empty groups, and a batch as nuisance; dense in double precision."""
    rng = np.random.default_rng(seed)
    combinations = np.array([(a, b, c) for a in range(2) for b in range(3) for c in range(3)
                             if (a, b, c) not in ((0, 1, 2), (1, 2, 0))])  # fmt: skip
    group = np.r_[np.repeat(np.arange(16), 9), rng.integers(16, size=276)]
    a, b, c = combinations[group].T
    batch = rng.integers(3, size=len(group))
    X = rng.normal(size=(len(group), 60)) @ (np.eye(60) + 0.1 * rng.normal(size=(60, 60)))
    for j, (codes, n) in enumerate([(a, 2), (b, 3), (c, 3), (batch, 3), (3 * a + b, 6), (3 * b + c, 9)]):
        X[:, 6 * j : 6 * j + 8] += rng.normal(0, 1, (n, 8))[codes]
    y = labels({"sex": a, "type": b, "time": c, "batch": batch},
               {"sex": "f m", "type": "p q r", "time": "t1 t2 t3", "batch": "b1 b2 b3"})  # fmt: skip
    return Problem(X, y, nuisance=("batch",))


def wide(seed: int = 3) -> Problem:
    """More genes than cells: 96 x 400, 2 x 3, dense in double precision; two genes are multiples of others."""
    rng = np.random.default_rng(seed)
    group = np.r_[np.repeat(np.arange(6), 10), rng.integers(6, size=36)]
    a, b = group // 3, group % 3
    X = rng.normal(size=(96, 400)) + rng.normal(size=(96, 4)) @ rng.normal(0, 0.5, (4, 400))
    X[:, :15] += np.where(a, 0.8, -0.8)[:, None]
    X[:, 15:35] += rng.normal(0, 1, (3, 20))[b]
    X[:, 35:50] += rng.normal(0, 1, (6, 15))[group]
    X[:, 40], X[:, 300] = 2 * X[:, 37], -X[:, 3]
    return Problem(X, labels({"side": a, "kind": b}, {"side": "left right", "kind": "x y z"}))


def between(n_donors: int = 10, seed: int = 4) -> Problem:
    """A treatment that varies between donors, and a cell type within them; dense in double precision."""
    rng = np.random.default_rng(seed)
    donor = np.repeat(np.arange(n_donors), 42)
    treatment, kind = donor % 2, np.tile(np.repeat(np.arange(3), 14), n_donors)
    keep = rng.random(len(donor)) < 0.85
    donor, treatment, kind = donor[keep], treatment[keep], kind[keep]
    X = rng.normal(size=(len(donor), 80)) + rng.normal(0, 0.4, (n_donors, 80))[donor]
    X[:, :10] += np.where(treatment, 0.7, -0.7)[:, None]
    X[:, 10:25] += rng.normal(0, 1, (3, 15))[kind]
    X[:, 25:30] += rng.normal(0, 1, (6, 5))[3 * treatment + kind]
    y = labels({"treatment": treatment, "kind": kind}, {"treatment": "drug none", "kind": "x y z"})
    return Problem(X, y, np.array([f"donor{d:02d}" for d in donor]))


# --- writing numbers ------------------------------------------------------------------------------------------


class Numbers:
    """Arrays of numbers and of text by name. An error is kept too: its class as text, its message beside."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.messages: dict[str, str] = {}
        self.scenario = ""

    def add(self, name: str, compute: Callable[[], Any]) -> Any:
        """Compute, keep all numbers of the result, and return it; None if it raised."""
        return self.run(name, lambda: self.keep(name, compute()))

    def run(self, name: str, compute: Callable[[], Any]) -> Any:
        """Compute and return the result, of which nothing is kept; None if it raised."""
        try:
            return compute()
        except Exception as error:  # noqa: BLE001 a version that raises where the other does not is a finding
            self._put(f"{name}.raises", np.array([type(error).__name__]))
            self.messages[f"{self.scenario}|{name}"] = f"{type(error).__name__}: {error}"
            return None

    def keep(self, name: str, value: Any) -> Any:
        """Take all numbers and text out of a result, and return it."""
        if isinstance(value, pd.DataFrame):
            self._put(f"{name}.n_rows", np.array([len(value)]))
            for column in value.columns:
                label = "_".join(map(str, column)) if isinstance(column, tuple) else str(column)
                self.keep(f"{name}.{FIELDS.get(label, label)}", value[column].to_numpy())
        elif isinstance(value, Mapping):
            for key, part in value.items():
                self.keep(f"{name}.{FIELDS.get(str(key), key)}", part)
        elif isinstance(value, np.ndarray) and value.dtype.names:
            for key in value.dtype.names:
                self.keep(f"{name}.{key}", value[key])
        elif sp.issparse(value):
            self._put(name, value.toarray())
        elif isinstance(value, list | tuple) and any(np.ndim(v) for v in value):
            for i, part in enumerate(value):
                self.keep(f"{name}.{i}", part)
        else:
            array = np.atleast_1d(np.asarray(value))
            if array.dtype.kind not in "fiub":
                # several values in one entry, such as collinear genes, were one text in 0.1
                text = [", ".join(map(str, v)) if isinstance(v, tuple | list) else str(v) for v in array.ravel()]
                array = np.array(text, dtype=np.str_).reshape(array.shape)
            self._put(name, array)
        return value

    def _put(self, name: str, array: np.ndarray) -> None:
        full = f"{self.scenario}|{name}"
        if full in self.arrays:
            raise ValueError(f"{full} is written twice")
        self.arrays[full] = array


# --- scenarios ------------------------------------------------------------------------------------------------


def dense_model(
    out: Numbers, problem: Problem, X: Any, name: str = "FLDA", *, donors: bool = False, **options: Any
) -> None:
    """Everything that a fitted FLDA shows."""
    prefix = f"{name}/"
    options = {"shrinkage": 0.3, "random_state": 0, "nuisance": problem.nuisance, **options}
    given = problem.donors if donors else None
    model = out.run(f"{prefix}fit", lambda: find("FLDA")(**options).fit(X, problem.y, groups=given))
    if model is not None:
        fitted(out, model, X, problem.y, prefix)


def sparse_model(
    out: Numbers, problem: Problem, X: Any, name: str = "SparseFLDA", *, donors: bool = False, **options: Any
) -> Any:
    """Everything that a fitted SparseFLDA shows."""
    prefix = f"{name}/"
    options = {"n_genes": 5, "shrinkage": 0.3, "random_state": 0, "nuisance": problem.nuisance, **options}
    given = problem.donors if donors else None
    model = out.run(f"{prefix}fit", lambda: find("SparseFLDA")(**options).fit(X, problem.y, groups=given))
    if model is not None:
        fitted(out, model, X, problem.y, prefix)
        out.add(f"{prefix}selected", lambda: model.selected_)
        out.add(f"{prefix}gene_report", lambda: model.gene_report_)
        out.add(f"{prefix}n_genes", lambda: model.n_genes_)
        out.add(f"{prefix}n_genes_path", lambda: model.n_genes_path_)
    return model


def fitted(out: Numbers, model: Any, X: Any, y: pd.DataFrame, prefix: str) -> None:
    for name in ("axes_", "components_", "eigenvalues_", "means_", "within_sd_", "donor_share_", "shrinkage_",
                 "shrinkage_path_", "solver_", "effects_", "classes_"):  # fmt: skip
        out.add(prefix + name, lambda name=name: getattr(model, name))
    out.add(f"{prefix}solved", lambda: model.residual_ < 1e-8)
    out.add(f"{prefix}estimability", lambda: model.design_.report)
    out.add(f"{prefix}group_levels", lambda: model.design_.group_levels().assign(n_cells=model.design_.counts))
    scores = out.add(f"{prefix}transform", lambda: model.transform(X))
    out.add(f"{prefix}inverse_transform", lambda: model.inverse_transform(scores))
    out.add(f"{prefix}predict", lambda: model.predict(X))
    out.add(f"{prefix}predict_proba", lambda: model.predict_proba(X))
    out.add(f"{prefix}score", lambda: model.score(X, y))


def fits(out: Numbers, problem: Problem, X: Any) -> None:
    """Options of the dense fit that matter for every kind of design."""
    for solver in ("primal", "dual", "iterative"):
        dense_model(out, problem, X, f"{solver}", solver=solver)
        dense_model(out, problem, X, f"{solver} cv", solver=solver, shrinkage="cv")
    dense_model(out, problem, X, "penalty inf", penalty=float("inf"))
    dense_model(out, problem, X, "penalty inf cv", penalty=float("inf"), shrinkage="cv")
    dense_model(out, problem, X, "main effects", interactions=None, penalty=0.5)


def options_of_the_fit(out: Numbers, problem: Problem, X: Any) -> None:
    """Options that are the same for every kind of design."""
    first, second = problem.factors[:2]
    for name in ("auto", "ledoit-wolf", "oas"):
        dense_model(out, problem, X, name, shrinkage=name)
    for within in ("pooled", "balanced"):
        for target in ("identity", "diagonal"):
            dense_model(out, problem, X, f"{within} {target}", within=within, shrinkage_target=target, shrinkage="cv")
    dense_model(out, problem, X, "one axis", n_components=1)
    dense_model(out, problem, X, "penalties", penalty={first: 10.0, second: float("inf")})
    dense_model(out, problem, X, "one interaction", interactions=[f"{first}:{second}"])


def sparse_axes(out: Numbers, problem: Problem, X: Any, *, donors: bool = False) -> None:
    """Genes of the axes: modes, selectors, penalties, the path."""
    model = sparse_model(out, problem, X, "axis", donors=donors)
    sparse_model(out, problem, X, "cv", shrinkage="cv", donors=donors)
    sparse_model(out, problem, X, "marker", mode="marker", donors=donors)
    sparse_model(out, problem, X, "penalty inf", penalty=float("inf"), n_genes=20, donors=donors)
    sparse_model(out, problem, X, "flow", selector="flow", donors=donors)
    if model is not None:
        given = problem.donors if donors else None
        out.add("path", lambda: _joined(model.path(X, problem.y, [8, 3], given)))


def _joined(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(genes=[" ".join(map(str, g)) for g in table["genes"]])


def evaluation(out: Numbers, problem: Problem, X: Any, *, donors: bool = False) -> None:
    """Certificates, penalties, tests, stability and bootstrap."""
    FLDA, SparseFLDA = find("FLDA"), find("SparseFLDA")
    given = problem.donors if donors else None
    common = {"interactions": problem.interactions, "nuisance": problem.nuisance, "random_state": 0}
    dense, tuned = FLDA(shrinkage=0.3, **common), FLDA(shrinkage="cv", **common)
    nulled = FLDA(shrinkage=0.3, penalty=float("inf"), **common)
    sparse = SparseFLDA(n_genes=5, shrinkage=0.3, **common)
    marker = SparseFLDA(n_genes=5, mode="marker", shrinkage=0.3, **common)

    def run(function: str, model: Any, **options: Any) -> Callable[[], Any]:
        return _once(lambda: call(f"inference.{function}", model, X, problem.y, donor=given, **options))

    for name, model in {"dense": dense, "dense cv": tuned, "penalty inf": nulled, "sparse": sparse}.items():
        out.add(f"certify/{name}", run("certify", model, n_folds=4, n_repeats=2, random_state=3))
    chosen = run("choose_penalty", dense, n_folds=3, penalties=(0.1, 1.0, float("inf")))
    out.add("choose_penalty/chosen", lambda: chosen()[0])
    out.add("choose_penalty/table", lambda: chosen()[1])
    effects = [problem.factors[0], problem.factors[-1], ":".join(problem.factors[:2])]
    for name, model in {"fixed": dense, "grid": tuned}.items():
        found = run("effect_tests", model, effects=effects, n_resamples=19, random_state=1)
        for part in ("table", "null", "genes"):
            out.add(f"effect_tests/{name} {part}", lambda found=found, part=part: getattr(found(), part))
    for name, model in {"axis": sparse, "marker": marker}.items():
        found = run("stability_selection", model, n_resamples=6, random_state=1)
        for part in ("genes", "n_resamples", "unit"):
            out.add(f"stability/{name} {part}", lambda found=found, part=part: field(found(), part))
        found = run("bootstrap", model.fit(X, problem.y, groups=given), n_resamples=20, random_state=1)
        for part in ("loadings", "scores"):
            out.add(f"bootstrap/{name} {part}", lambda found=found, part=part: getattr(found(), part))


def _once(compute: Callable[[], Any]) -> Callable[[], Any]:
    """Run once; give the result, or raise the error, as often as asked."""
    try:
        result, failed = compute(), None
    except Exception as error:  # noqa: BLE001 kept, and raised for every number that is lost
        result, failed = None, error

    def give() -> Any:
        if failed is not None:
            raise failed
        return result

    return give


def in_anndata(
    out: Numbers, problem: Problem, folder: Path, *, part: bool = False, backed: bool = False, n_genes: int = 5,
    **options: Any,
) -> None:  # fmt: skip
    """The steps of an analysis on an AnnData; every slot is kept as read from the file that is written at the end."""
    new = problem.adata()[:25, ::-1].copy()
    adata = problem.adata()
    if part:  # some cells have no label, some genes are not used, and the expression is in a layer
        adata.obs.iloc[5:15, 0] = None
        adata.var["used"] = np.arange(adata.n_vars) % 7 != 3
        adata.layers["log"], adata.X = adata.X, None
        new.layers["log"] = new.X
        options = {"layer": "log", "mask_var": "used", **options}
    if backed:
        path = folder / f"{out.scenario.replace(' ', '_')}_backed.h5ad"
        adata.write_h5ad(path)
        adata = read_h5ad(path, backed="r")
    nuisance = list(problem.nuisance) or None
    fit = {"interactions": problem.interactions, "nuisance": nuisance, "shrinkage": 0.3, **options}

    def step(name: str, *args: Any, **arguments: Any) -> None:
        out.run(f"step {name}", lambda: call(f"tl.{name}", *args, **arguments))

    step("flda", adata, problem.factors, **fit)
    step("held_out_scores", adata, n_folds=4)
    if not backed:  # tests need the data in memory
        step("effect_tests", adata, n_resamples=19)
    step("rank_genes", adata, n_genes=n_genes, min_cells=3, exclude=["gene_0003"])
    step("certify", adata, n_folds=3)
    step("path", adata, n_genes=[n_genes, n_genes + 3], n_folds=3)
    if not backed:
        step("stability", adata, n_resamples=4, n_bootstraps=20)
    step("transform", new, adata)
    out.add("transform", lambda: new.obsm["X_flda"])
    if backed:
        adata = adata.to_memory()
    path = folder / f"{out.scenario.replace(' ', '_')}.h5ad"
    adata.write_h5ad(path)
    read = read_h5ad(path)
    for name in sorted(read.obsm):
        out.keep(f"obsm/{name}", read.obsm[name])
    for name in sorted(read.varm):
        out.keep(f"varm/{name}", read.varm[name])
    out.keep("var", read.var)
    results = {k: v for k, v in read.uns["flda"].items() if k != "versions"}
    results["fit"]["residual"] = results["fit"]["residual"] < 1e-8
    if "candidates" in results.get("selection", {}):  # where 0.1 had them
        out.keep("var.flda_candidates", results["selection"].pop("candidates"))
    for name in sorted(results):
        out.keep(f"uns/{FIELDS.get(name, name)}", results[name])
    if "rank_genes_flda" in read.uns:
        out.keep("uns/rank_genes_flda", read.uns["rank_genes_flda"])
    for name in ("axes_df", "design_df", "certificate_df", "rank_genes_df"):
        out.add(f"get/{name}", lambda name=name: call(f"get.{name}", read))
    out.add("get/rank_genes_df of an effect", lambda: call("get.rank_genes_df", read, problem.factors[0]))


def metrics(out: Numbers, problem: Problem, X: Any) -> None:
    """Numbers about axes, with and without donors."""
    model = find("FLDA")(shrinkage=0.3).fit(X, problem.y, groups=problem.donors)
    scores, design = model.transform(X), model.design_
    donors = np.unique(problem.donors, return_inverse=True)[1]
    for name in ("effect_snr", "explained_variance"):
        out.add(name, lambda name=name: call(f"metrics.{name}", scores, design))
        out.add(f"{name} donors", lambda name=name: call(f"metrics.{name}", scores, design, donors))
    information = out.add("mutual_information", lambda: call("metrics.mutual_information", scores, design))
    out.add("modularity", lambda: call("metrics.modularity", information))
    out.add("mutual_information_gap", lambda: call("metrics.mutual_information_gap", information, design))


def shrunken_means(out: Numbers, problem: Problem, X: Any) -> None:
    """Group means shrunken by the factorial prior; in 0.1 the data had to be moved first."""
    FLDA = find("FLDA")
    if "group_means" in inspect.signature(FLDA).parameters:
        model = out.run("fit", lambda: FLDA(group_means="shrunken", shrinkage=0.3).fit(X, problem.y))
    else:
        moved = find("_solve.prior.borrow_means")(X, problem.y)
        model = out.run("fit", lambda: FLDA(shrinkage=0.3).fit(moved, problem.y))
    for name in ("components_", "eigenvalues_", "means_", "within_sd_"):
        out.add(name, lambda name=name: getattr(model, name))
    out.add("transform", lambda: model.transform(X))


def on_disk(X: Any, folder: Path) -> Any:
    path = folder / "stream.h5ad"
    AnnData(X).write_h5ad(path)
    return find("_data.arrays.Stream").of(read_h5ad(path, backed="r").X)


def scenarios(folder: Path) -> Iterator[tuple[str, Callable[[Numbers], None]]]:
    """Name and work of every scenario."""
    flies, crossed, short, arms, few = t4t5(), threeway(), wide(), between(), between(n_donors=6, seed=5)
    thin = t4t5(depth=0.15, seed=6)
    fewer = replace(crossed, interactions=["sex:type"])  # what is refitted many times has fewer axes
    csr = sp.csr_matrix(flies.X, dtype=np.float64)
    dense = csr.toarray()
    yield "fit t4t5 csr", lambda out: fits(out, flies, flies.X)
    yield "fit t4t5 thin csr", lambda out: fits(out, thin, thin.X)
    yield "fit three factors", lambda out: fits(out, crossed, crossed.X)
    yield "fit p > N", lambda out: fits(out, short, short.X)
    yield "options t4t5 dense", lambda out: options_of_the_fit(out, flies, dense)
    yield "options three factors", lambda out: options_of_the_fit(out, crossed, crossed.X)
    yield "options p > N", lambda out: options_of_the_fit(out, short, short.X)
    kinds = {"csr": csr, "csc": sp.csc_matrix(csr), "dense": dense, "dense float32": dense.astype(np.float32),
             "fortran": np.asfortranarray(dense), "frame": pd.DataFrame(dense).rename(columns=str),
             "disk": on_disk(flies.X, folder)}  # fmt: skip
    for name, X in kinds.items():
        yield f"array {name}", lambda out, X=X: dense_model(out, flies, X, shrinkage="cv")
    yield "donors within", lambda out: dense_model(out, flies, flies.X, donors=True, shrinkage="cv")
    for name, problem in {"donors between": arms, "donors between, three": few}.items():
        for solver in ("primal", "dual", "iterative"):
            yield (
                f"{name} {solver}",
                lambda out, p=problem, s=solver: dense_model(out, p, p.X, donors=True, solver=s, shrinkage="cv"),
            )
    yield "sparse t4t5 csr", lambda out: sparse_axes(out, flies, flies.X)
    yield "sparse t4t5 cv genes", lambda out: sparse_model(out, flies, flies.X, n_genes="cv", interactions=None)
    yield "sparse three factors", lambda out: sparse_axes(out, crossed, crossed.X)
    yield "sparse p > N", lambda out: sparse_axes(out, short, short.X)
    yield "sparse donors between", lambda out: sparse_axes(out, arms, arms.X, donors=True)
    yield "evaluation t4t5 csr", lambda out: evaluation(out, flies, flies.X)
    yield "evaluation three factors", lambda out: evaluation(out, fewer, fewer.X)
    yield "evaluation p > N", lambda out: evaluation(out, short, short.X)
    yield "evaluation donors within", lambda out: evaluation(out, flies, flies.X, donors=True)
    yield "evaluation donors between", lambda out: evaluation(out, arms, arms.X, donors=True)
    yield "evaluation donors between, three", lambda out: evaluation(out, few, few.X, donors=True)
    yield "metrics donors between", lambda out: metrics(out, arms, arms.X)
    yield "metrics donors within", lambda out: metrics(out, flies, flies.X)
    yield "shrunken means t4t5", lambda out: shrunken_means(out, flies, dense)
    yield "shrunken means p > N", lambda out: shrunken_means(out, short, short.X)
    yield "tl t4t5 csr", lambda out: in_anndata(out, flies, folder, shrinkage="cv")
    yield "tl t4t5 part of the cells and genes", lambda out: in_anndata(out, flies, folder, part=True)
    yield "tl t4t5 on disk", lambda out: in_anndata(out, flies, folder, backed=True)
    yield "tl donors within", lambda out: in_anndata(out, flies, folder, donor="donor")
    yield "tl donors between", lambda out: in_anndata(out, arms, folder, donor="donor", shrinkage="auto")
    yield "tl three factors", lambda out: in_anndata(out, fewer, folder, penalty=float("inf"), n_genes=20)
    yield "tl p > N", lambda out: in_anndata(out, short, folder, n_components=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="run the scenarios whose names hold this word")
    arguments = parser.parse_args()
    import flda

    warnings.simplefilter("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    out, seconds = Numbers(), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, work in scenarios(Path(folder)):
            if arguments.only not in name:
                continue
            start = time.perf_counter()
            out.scenario = name
            out.run("scenario", lambda work=work: work(out))
            seconds[name] = round(time.perf_counter() - start, 2)
    np.savez(arguments.out / "numbers.npz", **out.arrays)
    about = {"tree": str(Path(flda.__file__).parents[1]), "seconds": seconds, "messages": out.messages}
    (arguments.out / "about.json").write_text(json.dumps(about, indent=1), "utf-8")


if __name__ == "__main__":
    main()
