"""The commands of the command line: one function each, with the parsed arguments."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from anndata import AnnData

from .. import datasets, get, pl, report, tl
from .._adata import read
from .._adata.record import Record
from .._adata.results import predictions
from .._data.device import NoDevice
from .._design.covariates import variation
from .._design.design import Design
from .._design.effects import Effect
from .._design.formula import parse_formula
from .._design.make import make_design
from .._logging import quiet
from .._solve.slopes import LEAST_VARIATION
from ..simulate._power import power
from . import _check as checks
from ._analysis import analyse, print_certificate
from ._arguments import FOLDS
from ._folder import WRITTEN, UsageError, check_folder, whole_file, whole_folder, write_csv, write_summary, writing
from ._reading import from_counts, read_data

logger = logging.getLogger("flda")

LITTLE_LEFT = 0.05  # share of a covariate from which its slope is called imprecise


def execute(args: argparse.Namespace) -> int:
    """Run the command that the arguments name and return the exit status."""
    commands = {
        "demo": demo, "run": run, "rank": rank, "report": write_report, "check": check, "predict": predict,
        "panel": choose_panel, "power": plan, "list": list_datasets, "fetch": fetch_dataset, "verify": verify_datasets,
    }  # fmt: skip
    mpl.use("Agg")  # figures go to files
    args.warnings = _log_to_stderr()
    WRITTEN.clear()
    if getattr(args, "interactions", None) in (["all"], ["estimable"], ["none"]):
        args.interactions = None if args.interactions == ["none"] else args.interactions[0]
    try:
        with warnings.catch_warnings(), _terminated_like_interrupted():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = lambda message, *_, **__: logger.warning("%s", message)
            commands[args.command](args)
    except KeyboardInterrupt:
        print(f"flda: stopped; {', '.join(map(str, WRITTEN)) or 'nothing'} was written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the program that reads the output has closed the pipe, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, ValueError, ImportError, OSError, NoDevice) as error:
        print(f"flda: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def demo(args: argparse.Namespace) -> None:
    """Analyse simulated T4/T5 cells and compare the selected genes with those that carry the effects."""
    adata = datasets.t4t5_simulated()
    print(f"simulated T4/T5 (not real data): {adata.n_obs:,} cells x {adata.n_vars:,} genes, dendrite x axon")
    args.factors, args.title = ["dendrite", "axon"], "Simulated T4/T5 cells (not real data)"
    analyse(adata, args, args.out or Path("flda_demo"), overwrite=args.overwrite)
    table = get.rank_genes_df(adata)
    chosen = table[table["selected"]].assign(
        hit=lambda t: [adata.var.loc[g, f"truth_{e}"] for g, e in zip(t["gene"], t["effect"], strict=True)]
    )
    for axis, part in chosen.groupby("axis", sort=False):
        genes = ", ".join(part["gene"].head(4))
        print(f"  {axis:<17} {part['hit'].sum():>2} of the {len(part)} selected genes carry its effect: {genes}, ...")


def run(args: argparse.Namespace) -> None:
    """Analyse an h5ad file and write a folder with rankings, tables, figures, a certificate and a report."""
    out = args.out or Path(f"{args.file.stem}_flda")
    inputs = [args.file, *([args.labels] if args.labels else [])]
    check_folder(out, overwrite=args.overwrite, inputs=inputs)
    if args.from_counts and args.backed:
        raise UsageError("--from-counts reads the counts into memory; leave out --backed")
    adata = read_data(args.file, counts=args.from_counts, backed=args.backed, labels=args.labels)
    args.title, args.said = args.file.name, []
    if args.from_counts:
        adata, args.said = from_counts(
            adata, args.layer, min_genes=args.min_genes, min_cells=args.min_cells, max_mito=args.max_mito
        )
        args.layer = None
        print("\n".join(args.said))
    analyse(adata, args, out, overwrite=args.overwrite, inputs=inputs)


def check(args: argparse.Namespace) -> None:
    """Print the groups and the effects that they can estimate, and look at values, depth, donors and time."""
    adata = read_data(args.file, counts=True, backed=True, labels=args.labels)
    factors, interactions, nuisance = args.factors, args.interactions, args.nuisance or []
    numeric = dict(args.numeric) if args.numeric else None
    if args.formula:
        found = parse_formula(args.formula, read.in_memory(adata.obs), nuisance, numeric)
        factors, interactions, numeric = found.factors, found.interactions or None, found.numeric
    labels = read.labels(adata, [*factors, *nuisance])
    labelled = labels.notna().all(axis=1)
    if not labelled.all():
        print(f"{(~labelled).sum()} of {len(labels)} cells lack a label and would be left out of the fit")
    with quiet():
        design = make_design(
            labels[labelled], interactions=interactions, nuisance=nuisance, numeric=numeric,
            contrasts=dict(args.contrast) if args.contrast else None, error="auto",
        )  # fmt: skip
    table = design.counts_table()
    index, columns = (factors[:-1], factors[-1]) if len(factors) > 1 else (factors, None)
    wide = table.pivot_table(index=index, columns=columns, values="n_cells", aggfunc="sum", observed=False)
    print(f"{adata.n_obs:,} cells x {adata.n_vars:,} genes; cells per group:\n")
    print(wide.astype(int).to_string())
    print("\neffects:")
    for row in design.report.itertuples():
        of_nuisance = set(design.table.factors_of(Effect.parse(row.effect))) & set(nuisance)
        role = "nuisance, no axes" if of_nuisance else f"{row.df} axes" if row.df > 1 else "1 axis"
        role += f"; {row.reason}" if row.left_out else ""
        print(f"  {row.effect:<30} {role if row.estimable else 'cannot be estimated: ' + row.reason}")
    for effect, contrast in design.named.items():
        print(f"  {effect.name:<30} 1 axis: {contrast.text(design.levels)}")
    _print_numbers(design)
    if design.unit_model is not None:
        print(f"\nnoise: what the effects leave of single units, {design.unit_model.df} degrees of freedom")
        return
    few = table[(table["n_cells"] > 0) & (table["n_cells"] < 5)]
    if len(few):
        print(f"\n{len(few)} groups have fewer than 5 cells; their means are noisy")

    _check_more(adata, args, factors, nuisance, interactions, numeric, labelled.to_numpy())


def _check_more(
    adata: AnnData, args: argparse.Namespace, factors: list[str], nuisance: list[str], interactions: Any, numeric: Any,
    labelled: np.ndarray,
) -> None:  # fmt: skip
    """The parts of ``flda check`` that read values."""
    known = np.flatnonzero(labelled)
    rows = known[np.unique(np.linspace(0, len(known) - 1, checks.SAMPLED).astype(int))]
    X = checks.sampled_rows(adata, args.layer, rows)
    print(f"\nvalues of {len(rows):,} cells:")
    for line in checks.values(X, read.matrix_name(args.layer)):
        print(f"  {line}")
    with quiet():
        sampled = make_design(
            read.labels(adata, [*factors, *nuisance]).iloc[rows], interactions=None, nuisance=nuisance, numeric=numeric
        )
    print("depth:")
    for line in checks.depth(adata, X, sampled, rows, args.layer):
        print(f"  {line}")
    obs = read.in_memory(adata.obs)
    if lines := list(checks.donors(obs, factors, args.donor)):
        print("donors:", *lines, sep="\n  ")
    if args.no_time:
        return
    codes = np.full(adata.n_obs, -1)
    codes[known] = obs.loc[labelled, factors].astype(str).groupby(factors, sort=False).ngroup()

    def fit(part: AnnData) -> None:
        tl.flda(
            part, args.formula or args.factors, interactions=args.interactions, nuisance=args.nuisance,
            numeric=dict(args.numeric) if args.numeric else None, layer=args.layer,
            contrasts=dict(args.contrast) if args.contrast else None,
        )  # fmt: skip

    try:
        time_s, how = checks.seconds(adata, codes, fit, FOLDS)
    except ValueError as error:
        print(f"time: could not be estimated ({error})")
        return
    print(f"time of flda run: about {checks.in_words(time_s)}; {how}")


def _print_numbers(design: Design) -> None:
    """Print the values of numeric factors, and how much of each covariate varies beside the groups."""
    for name, values in design.numeric.items():
        print(f"\n{name}: a number with {len(values)} values from {values.min():.3g} to {values.max():.3g}")
    if design.covariates is None:
        return
    print("\ncovariates, with a slope for every gene and no axes:")
    explained = np.eye(design.n_groups)[design.codes]
    if design.unit_model is not None:
        explained = design.unit_model.of_groups[design.codes]
    for effect, share in variation(design.covariates.values, design.covariates.columns, explained).items():
        verdict = ": its slope is imprecise" if share < LITTLE_LEFT else ""
        if share <= LEAST_VARIATION**2:
            verdict = ": its slope cannot be estimated; leave it out, or bin it"
        print(f"  {effect.name:<30} groups and other covariates leave {share:.1%} of its variance{verdict}")


def rank(args: argparse.Namespace) -> None:
    """Write the gene rankings of a result.h5ad: as a CSV, or as one .rnk file per axis."""
    if args.rnk is not None and args.sort_by == "F":
        raise UsageError("--rnk needs a number with a sign; use --sort-by score or --sort-by pattern")
    if args.rnk is not None:
        _rank_to_folder(args)
        return
    out = args.out or args.file.with_name(f"gene_rankings_{args.sort_by}.csv")
    with whole_file(out, overwrite=args.overwrite, own=_is_ranking, inputs=[args.file]) as part:
        adata = _read(args.file)
        _record(adata, args.file, args.key)
        table = get.rank_genes_df(adata, args.effect, sort_by=args.sort_by, key=args.key)
        if args.without_cancelling:
            table = table[table["kind"] != "cancelling"]
        with writing(out):
            write_csv(table[get.RANKING_COLUMNS], part)


def _rank_to_folder(args: argparse.Namespace) -> None:
    """Write one .rnk file per axis."""
    with whole_folder(args.rnk, overwrite=args.overwrite, inputs=[args.file]) as folder:
        adata = _read(args.file)
        axes = _record(adata, args.file, args.key).axes
        axes = axes if args.effect is None else axes[axes["effect"] == args.effect]
        for axis in axes["axis"]:
            of_axis = get.preranked_df(
                adata, axis, by=args.sort_by, cancelling=not args.without_cancelling, key=args.key
            )
            with writing(args.rnk):
                name = re.sub(r"[^\w.-]+", "-", axis)
                write_csv(of_axis, folder / f"{name}.rnk", sep="\t", header=False)
        with writing(args.rnk):
            write_summary(folder, {"file": args.file.name, "sort_by": args.sort_by, "axes": axes["axis"].tolist()})
    print(f"wrote {args.rnk}/: {len(axes)} axes")


def write_report(args: argparse.Namespace) -> None:
    """Write the report of a result.h5ad, for instance after further steps in Python."""
    out = args.out or args.file.with_name("report.html")
    with whole_file(out, overwrite=args.overwrite, own=_is_report, inputs=[args.file]) as part:
        adata = _read(args.file)
        _record(adata, args.file, args.key)
        with writing(out):
            report.write(adata, part, title=args.title, key=args.key)


def predict(args: argparse.Namespace) -> None:
    """Predict the level of every factor for new cells: a CSV with levels, and the probability of each level."""
    out = args.out or Path(f"{args.new.stem}_predictions.csv")
    with whole_file(out, overwrite=args.overwrite, own=_is_prediction, inputs=[args.file, args.new]) as part:
        reference, adata = _read(args.file), _read(args.new)
        record = _record(reference, args.file, args.key)
        tl.predict(adata, reference, prior=args.prior, key=args.key)
        factors, first = record.params["factors"], "cell"
        while first in factors:
            first += "_name"
        columns: dict[str, Any] = {first: adata.obs_names}
        for factor in factors:
            predicted, probabilities = predictions(adata, args.key, factor)
            columns[factor] = np.asarray(predicted)
            columns |= {f"{factor}: {level}": probabilities[:, j] for j, level in enumerate(predicted.categories)}
            shares = pd.Series(predicted).value_counts(normalize=True, sort=False)
            print(f"  {factor:<20} " + ", ".join(f"{level} {share:.0%}" for level, share in shares.items()))
        with writing(out):
            write_csv(pd.DataFrame(columns), part)


def choose_panel(args: argparse.Namespace) -> None:
    """Choose a panel of genes for all axes of a result.h5ad, and write it as a CSV."""
    out = args.out or args.file.with_name("panel.csv")
    with whole_file(out, overwrite=args.overwrite, own=_is_panel, inputs=[args.file]) as part:
        adata = _read(args.file)
        _record(adata, args.file, args.key)
        tl.panel(
            adata, args.n_genes, effects=args.effects, include=args.include, exclude=args.exclude,
            mask_var=args.mask_var, min_per_axis=args.min_per_axis, cost=args.cost, budget=args.budget, key=args.key,
        )  # fmt: skip
        if not args.no_certificate:
            try:
                tl.certify(adata, n_folds=args.folds, genes=["all", "panel"], key=args.key)
                print_certificate(get.certificate_df(adata, key=args.key), ["all", "panel"])
            except ValueError as error:  # no cell can be held out: the panel stands
                logger.warning("no certificate: %s", error)
        with writing(out):
            write_csv(get.panel_df(adata, key=args.key), part)


def plan(args: argparse.Namespace) -> None:
    """Estimate how many cells and donors per group a study needs, from pilot data with raw counts."""
    import matplotlib.pyplot as plt  # after main has chosen the backend

    adata = _read(args.file)
    if args.mask_var:
        adata = adata[:, read.gene_mask(adata, args.mask_var)].copy()
    out = args.out or Path(f"{args.file.stem}_power")
    with whole_folder(out, overwrite=args.overwrite, inputs=[args.file]) as folder:
        found = power(
            adata, args.factors, n_cells=args.n_cells, n_donors=args.n_donors, purity=args.purity,
            stability=args.stability, n_genes=args.n_genes, interactions=args.interactions, nuisance=args.nuisance,
            numeric=dict(args.numeric) if args.numeric else None,
            contrasts=dict(args.contrast) if args.contrast else None,
            donor=args.donor, layer=args.layer or None, n_studies=args.studies, random_state=args.seed,
            n_jobs=args.jobs,
        )  # fmt: skip
        with writing(out):
            write_csv(found.curves, folder / "power.csv")
            write_csv(found.needed, folder / "needed.csv")
            for measure in ("purity", "stability"):
                figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
                pl.power(found, measure, ax=ax)
                figure.savefig(folder / f"{measure}.png", dpi=150)
                plt.close(figure)
            write_summary(folder, {"factors": args.factors, "n_cells": args.n_cells, "seed": args.seed})
    print(
        f"smallest of {', '.join(map(str, args.n_cells))} cells per group with which 80 % of studies reach the target:"
    )
    for row in found.needed.itertuples():
        donors = f", {row.n_donors} donors" if row.n_donors else ""
        smallest = f"{row.n_cells:.0f}" if np.isfinite(row.n_cells) else "more"
        print(f"  {row.effect:<28} {row.measure:<10} {row.target:g}{donors}: {smallest}")
    print(f"wrote {out}/: {', '.join(sorted(p.name for p in out.iterdir()))}")


def list_datasets(args: argparse.Namespace) -> None:
    """Print the data sets that can be fetched."""
    for name, manifest in datasets.manifests().items():
        sizes = [f["bytes"] for f in manifest["files"]]
        size = f"{sum(sizes) / 1e6:,.1f} MB" if all(isinstance(s, int) for s in sizes) else "size unknown"
        print(f"{name:<24} {size:>12}  {manifest['licence']:<12} {manifest['title']}")


def fetch_dataset(args: argparse.Namespace) -> None:
    """Find or download, and verify, every file of a data set; downloads go to FLDA_DATA_DIR if that is set."""
    for entry in _manifest(args.name)["files"]:
        print(datasets.fetch(args.name, entry["name"], download=True))


def verify_datasets(args: argparse.Namespace) -> None:
    """Compare the files of data sets that are present with their checksums, without using the network.

    For a single data set, also say what it should hold, and with ``--load`` whether it does.
    """
    bad = []
    for name in [args.name] if args.name else datasets.manifests():
        _manifest(name)
        for row in datasets.verify(name).itertuples():
            print(f"{name:<24} {row.file:<50} {row.status}")
            if row.status == "damaged" or (args.name and row.status == "missing"):
                bad.append(f"{row.file} is {row.status}")
    if args.name:
        table = datasets.expected(args.name, load=args.load and not bad)
        for row in table.itertuples():
            print(f"  {row.what:<28} {row.expected}{f'  found {row.found}: {row.status}' if row.found else ''}")
            if row.status == "different":
                bad.append(f"{row.what}: {row.found} instead of {row.expected}")
        for line in _manifest(args.name).get("expect", []):
            print(f"  {line}")
    if bad:
        raise UsageError("; ".join(bad))


def _manifest(name: str) -> dict:
    known = datasets.manifests()
    if name not in known:
        raise UsageError(f"unknown data set {name!r}; known: {', '.join(known)}")
    return known[name]


def _read(path: Path) -> AnnData:
    if path.suffix != ".zarr" and path.is_dir():
        raise UsageError(f"{path} is a folder; name a result.h5ad")
    return read_data(path)


def _record(adata: AnnData, path: Path, key: str) -> Record:
    try:
        return Record(adata, key)
    except ValueError:
        raise UsageError(f"{path} holds no results of flda under the key {key!r}; analyse it with: flda run") from None


def _is_report(path: Path) -> bool:
    """Whether a file is a report of flda."""
    return b'<meta name="generator" content="flda ' in path.read_bytes()[:2000]


def _is_ranking(path: Path) -> bool:
    return _columns(path) == list(get.RANKING_COLUMNS)


def _is_panel(path: Path) -> bool:
    return {"gene", "axis", "included"} <= set(_columns(path))


def _is_prediction(path: Path) -> bool:
    names = _columns(path)
    return len(names) > 2 and names[0].removesuffix("_name") == "cell" and names[2].startswith(f"{names[1]}: ")


def _columns(path: Path) -> list[str]:
    """Columns of a CSV file; none if it is no such file."""
    try:
        return list(map(str, pd.read_csv(path, nrows=0).columns))
    except (ValueError, OSError):  # pandas' own errors are ValueErrors
        return []


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, which batch systems send, and SIGHUP end the work as Ctrl-C does, which leaves nothing behind."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set a handler
        yield
        return
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    # a signal that is ignored, as SIGHUP under nohup, stays ignored
    earlier = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in earlier:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _log_to_stderr() -> list[str]:
    """Show warnings, and on a terminal every step; returns a list to which warnings are added as they come."""
    seen: list[str] = []

    def new(record: logging.LogRecord) -> bool:
        """Whether a line is new: a step may repeat a warning of the step before."""
        text = record.getMessage()
        if record.levelno < logging.WARNING:
            return True
        if text in seen:
            return False
        seen.append(text)
        return True

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("flda: %(message)s"))
    handler.addFilter(new)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if sys.stderr.isatty() else logging.WARNING)
    return seen
