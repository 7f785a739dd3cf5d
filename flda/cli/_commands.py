"""The commands of the command line: one function each, with the parsed arguments."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import warnings
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
from ..simulate._power import power
from ._analysis import analyse, print_certificate
from ._check import check
from ._datasets import fetch_dataset, list_datasets, verify_datasets
from ._folder import WRITTEN, UsageError, check_folder, whole_file, whole_folder, write_csv, write_summary, writing
from ._process import log_to_stderr, terminated_like_interrupted
from ._reading import from_counts, read_data

logger = logging.getLogger("flda")


def execute(args: argparse.Namespace) -> int:
    """Run the command that the arguments name and return the exit status."""
    commands = {
        "demo": demo, "run": run, "rank": rank, "report": write_report, "check": check, "predict": predict,
        "panel": choose_panel, "power": plan, "list": list_datasets, "fetch": fetch_dataset, "verify": verify_datasets,
    }  # fmt: skip
    mpl.use("Agg")  # figures go to files
    args.warnings = log_to_stderr()
    WRITTEN.clear()
    if getattr(args, "interactions", None) in (["all"], ["estimable"], ["none"]):
        args.interactions = None if args.interactions == ["none"] else args.interactions[0]
    try:
        with warnings.catch_warnings(), terminated_like_interrupted():
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
