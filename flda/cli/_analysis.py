"""The whole analysis of ``flda run`` and ``flda demo``: its files, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from anndata import AnnData

from .. import get, report, tl
from .._adata.record import Record
from .._adata.results import write
from .._logging import get_logger
from ._folder import whole_folder, write_csv, write_summary, writing

logger = get_logger(__name__)


def analyse(
    adata: AnnData, args: argparse.Namespace, out: Path, *, overwrite: bool, inputs: Sequence[Path] = ()
) -> None:
    """Run all steps that the arguments ask for, write the results folder, and print the main numbers."""
    with whole_folder(out, overwrite=overwrite, inputs=inputs) as folder:
        _run_steps(adata, args)
        record = Record(adata)
        if others := [text for text in args.warnings if text not in record.warnings]:
            write(adata, "flda", warned={**(record.warned if "warned" in record else {}), "flda run": others})
        with writing(out):
            _write_files(adata, args.title, args.sort_by, folder, getattr(args, "said", []))
    _print_numbers(adata)
    print(f"wrote {out}/: {', '.join(sorted(p.name for p in out.iterdir()))}")


def _run_steps(adata: AnnData, args: argparse.Namespace) -> None:
    tl.flda(
        adata,
        args.formula or args.factors,
        interactions=args.interactions,
        nuisance=args.nuisance,
        numeric=dict(args.numeric) if args.numeric else None,
        contrasts=dict(args.contrast) if args.contrast else None,
        donor=args.donor,
        layer=args.layer,
        mask_var=args.mask_var,
        n_components=args.n_components,
        objective=args.objective,
        penalty=args.penalty,
        weights=args.weights,
        group_means=args.group_means,
        error=args.error,
        shrinkage=args.shrinkage,
        allow_counts=args.allow_counts,
        device=args.device,
        random_state=args.seed,
    )
    tl.rank_genes(adata, n_genes=args.n_genes, mode=args.mode, sort_by=args.sort_by)
    if args.permutations:
        tl.effect_tests(adata, n_resamples=args.permutations, random_state=args.seed)
    if args.stability:
        tl.stability(adata, n_resamples=args.stability, random_state=args.seed, n_jobs=args.jobs)
    try:
        tl.certify(adata, n_folds=args.folds, n_repeats=args.repeats, random_state=args.seed, n_jobs=args.jobs)
        tl.held_out_scores(adata, n_folds=args.folds, n_jobs=args.jobs)
    except ValueError as error:  # no cell can be held out: the rest of the analysis stands
        logger.warning("no certificate.csv: %s (%d cells)", error, Record(adata).fit["n_cells"])
    if args.path:
        tl.path(adata, n_genes=args.path, mode=args.mode, n_jobs=args.jobs)


def _write_files(adata: AnnData, title: str, sort_by: str, folder: Path, said: Sequence[str]) -> None:
    record = Record(adata)
    write_csv(get.rank_genes_df(adata, sort_by=sort_by)[get.RANKING_COLUMNS], folder / "gene_rankings.csv")
    write_csv(record.axes, folder / "axes.csv")
    write_csv(record.design, folder / "design.csv")
    if "certificate" in record:
        write_csv(record.certificate, folder / "certificate.csv")
    if "tests" in record:
        write_csv(record.tests["table"], folder / "tests.csv")
    if "stability" in record:
        write_csv(record.stability["genes"], folder / "stability.csv")
    figures = list(report.pictures(adata))
    (folder / "figures").mkdir()
    for figure in figures:
        (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)
    report.write(adata, folder / "report.html", title=title, figures=figures)
    adata.write_h5ad(folder / "result.h5ad")
    lost = record.estimability[record.estimability["left_out"] > 0]
    write_summary(
        folder,
        {
            "n_cells": adata.n_obs,
            "n_genes": adata.n_vars,
            "params": record.params,
            "fit": record.fit,
            "variance": record.variance.to_dict("records"),
            "axes": record.axis_names,
            "not_estimable": lost[["effect", "reason"]].to_dict("records"),
            "versions": record.versions,
            "from_counts": said,
        },
    )


def _print_numbers(adata: AnnData) -> None:
    record = Record(adata)
    fit = record.fit
    print(
        f"{len(record.axes)} axes, shrinkage {fit['shrinkage']:.3g}, solver {fit['solver']}, "
        f"residual {fit['residual']:.0e}"
    )
    if fit["error"] == "residual":
        print(f"noise: what the effects leave, {int(fit['df_residual'])} degrees of freedom")
    if "certificate" in record:
        print_certificate(record.certificate, ["all", "selected"])
    if "tests" in record:
        print("p-values of the effects:")
        for row in record.tests["table"].itertuples():
            print(f"  {row.effect:<28} {row.pval:.3g} ({row.n_resamples} resamples; unit: {row.unit})")


def print_certificate(table: pd.DataFrame, genes: Sequence[str]) -> None:
    """Print SNR and cross-talk of every axis, with a column for the axes of each kind of genes."""
    scheme = "pooled" if (table["scheme"] == "pooled").all() else f"{int(table['n_folds'].iloc[0])} folds"
    print(f"signal-to-noise ratio (SNR) with its standard error, and cross-talk, on held-out cells ({scheme}):")
    names = {"all": "all genes", "selected": "selected genes", "panel": "panel"}
    print(f"  {'axis':<28}" + "".join(f" {names[name]:>26}" for name in genes))
    for axis, part in table.groupby("axis", sort=False):
        numbers = {
            row.genes: f"{row.snr:>8.2f} +- {row.se_snr:<6.2g} {row.crosstalk:>7.3f}" for row in part.itertuples()
        }
        print(f"  {axis:<28}" + "".join(f" {numbers.get(name, ''):>26}" for name in genes))
