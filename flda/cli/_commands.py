"""Command line: ``flda demo``, ``flda run``, ``flda report``, ``flda check``, ``flda power``, ``flda datasets``."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad

from .. import datasets, get, pl, report, tl
from .._adata import read
from .._adata.results import Keys
from .._data.device import NoDevice
from .._design.design import make_design
from .._logging import quiet
from ..simulate._power import power
from ._arguments import parser

logger = logging.getLogger("flda")

SUMMARY = "summary.json"  # its presence marks a folder as one of ours


class UsageError(Exception):
    """Something the user can mend; shown as one line, exit status 2."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    args = _parser().parse_args(argv)
    mpl.use("Agg")  # figures go to files
    args.warnings = _log_to_stderr()
    if getattr(args, "interactions", None) in (["all"], ["none"]):
        args.interactions = {"all": "all", "none": None}[args.interactions[0]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = lambda message, *_, **__: logger.warning("%s", message)
            args.run(args)
    except KeyboardInterrupt:
        print("flda: stopped; nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, ValueError, ImportError, OSError, NoDevice) as error:
        print(f"flda: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def demo(args: argparse.Namespace) -> None:
    """Simulated T4/T5 cells, whole run, and what came out."""
    adata = datasets.t4t5_simulated()
    print(f"simulated T4/T5 (not real data): {adata.n_obs:,} cells x {adata.n_vars:,} genes, dendrite x axon")
    args.factors, args.title = ["dendrite", "axon"], "Simulated T4/T5 cells (not real data)"
    out = args.out or Path("flda_demo")
    # a demo may replace an earlier demo, never anything else
    _analyse(adata, args, out, overwrite=True)
    table = get.rank_genes_df(adata)
    chosen = table[table["selected"]].assign(
        hit=lambda t: [adata.var.loc[g, f"truth_{e}"] for g, e in zip(t["gene"], t["effect"], strict=True)]
    )
    for axis, part in chosen.groupby("axis", sort=False):
        genes = ", ".join(part["gene"].head(4))
        print(f"  {axis:<17} {part['hit'].sum():>2} of the {len(part)} selected genes are planted there: {genes}, ...")


def run(args: argparse.Namespace) -> None:
    """Fit an h5ad file and write the results folder."""
    adata = _read(args.file, backed=args.backed)
    args.title = args.file.name
    _analyse(adata, args, args.out or Path(f"{args.file.stem}_flda"), overwrite=args.overwrite)


def check(args: argparse.Namespace) -> None:
    """Print the contingency table and what it can estimate."""
    adata = _read(args.file, backed=True)
    nuisance = args.nuisance or []
    labels = read.labels(adata, [*args.factors, *nuisance])
    labelled = labels.notna().all(axis=1)
    if not labelled.all():
        print(f"{(~labelled).sum()} of {len(labels)} cells lack a label and would be left out of the fit")
    with quiet():
        design = make_design(labels[labelled], interactions=args.interactions, nuisance=nuisance)
    table = design.counts_table()
    index, columns = (args.factors[:-1], args.factors[-1]) if len(args.factors) > 1 else (args.factors, None)
    wide = table.pivot_table(
        index=index, columns=columns, values="n_cells", aggfunc="sum", observed=False
    )  # fmt: skip
    print(f"{adata.n_obs:,} cells x {adata.n_vars:,} genes; cells per group:\n")
    print(wide.astype(int).to_string())
    print("\neffects:")
    for row in design.report.itertuples():
        role = "nuisance, no axes" if row.effect in nuisance else f"{row.df} axes" if row.df > 1 else "1 axis"
        print(f"  {row.effect:<30} {role if row.estimable else 'cannot be estimated: ' + row.reason}")
    few = table[(table["n_cells"] > 0) & (table["n_cells"] < 5)]
    if len(few):
        print(f"\n{len(few)} groups have fewer than 5 cells; their means are noisy and weigh as much as any other")


def write_report(args: argparse.Namespace) -> None:
    """Write the report of a result.h5ad, after further steps in Python for instance."""
    adata = _read(args.file)
    if Keys(args.key).uns not in adata.uns:
        raise UsageError(f"{args.file} holds no results of flda under the key {args.key!r}; run: flda run")
    out = args.out or args.file.with_name("report.html")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out must name a file")
    if out.exists() and not args.overwrite:
        raise UsageError(f"{out} exists; name another file with --out, or add --overwrite")
    try:
        report.write(adata, out, title=args.title, key=args.key)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None
    print(f"wrote {out}")


def plan(args: argparse.Namespace) -> None:
    """Cells and donors per group that a study needs, from pilot data with raw counts."""
    import matplotlib.pyplot as plt  # after main has chosen the backend

    adata = _read(args.file)
    if args.mask_var:
        adata = adata[:, read.gene_mask(adata, args.mask_var)].copy()
    found = power(
        adata, args.factors, n_cells=args.n_cells, n_donors=args.n_donors, purity=args.purity,
        stability=args.stability, n_genes=args.n_genes, interactions=args.interactions, nuisance=args.nuisance,
        donor=args.donor, layer=args.layer or None, n_studies=args.studies, random_state=args.seed,
    )  # fmt: skip
    out = args.out or Path(f"{args.file.stem}_power")
    with _whole_folder(out, overwrite=args.overwrite) as folder:
        _to_csv(found.curves, folder / "power.csv")
        _to_csv(found.needed, folder / "needed.csv")
        for measure in ("purity", "stability"):
            figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
            pl.power(found, measure, ax=ax)
            figure.savefig(folder / f"{measure}.png", dpi=150)
            plt.close(figure)
        (folder / SUMMARY).write_text(
            json.dumps({"factors": args.factors, "n_cells": args.n_cells, "seed": args.seed}, indent=2, default=str)
            + "\n",
            encoding="utf-8",
        )
    print(f"fewest of {', '.join(map(str, args.n_cells))} cells per group with which 80 % of studies reach the target:")
    for row in found.needed.itertuples():
        donors = f", {row.n_donors} donors" if row.n_donors else ""
        fewest = f"{row.n_cells:.0f}" if np.isfinite(row.n_cells) else "more"
        print(f"  {row.effect:<28} {row.measure:<10} {row.target:g}{donors}: {fewest}")
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
    """Compare the files of data sets that are at hand with their checksums, without the network."""
    bad = []
    for name in [args.name] if args.name else datasets.manifests():
        _manifest(name)
        for row in datasets.verify(name).itertuples():
            print(f"{name:<24} {row.file:<50} {row.status}")
            if row.status == "damaged" or (args.name and row.status == "missing"):
                bad.append(f"{row.file} is {row.status}")
    if bad:
        raise UsageError("; ".join(bad))


def _manifest(name: str) -> dict:
    known = datasets.manifests()
    if name not in known:
        raise UsageError(f"unknown data set {name!r}; known: {', '.join(known)}")
    return known[name]


def _analyse(adata: AnnData, args: argparse.Namespace, out: Path, *, overwrite: bool) -> None:
    with _whole_folder(out, overwrite=overwrite) as folder:
        tl.flda(
            adata,
            args.factors,
            interactions=args.interactions,
            nuisance=args.nuisance,
            donor=args.donor,
            layer=args.layer,
            mask_var=args.mask_var,
            n_comps=args.n_comps,
            penalty=args.penalty,
            shrinkage=args.shrinkage,
            device=args.device,
            random_state=args.seed,
        )
        tl.rank_genes(adata, n_genes=args.n_genes, mode=args.mode)
        if args.permutations:
            tl.permutation_test(adata, n_perms=args.permutations, random_state=args.seed)
            _to_csv(adata.uns[Keys().uns]["permutation"]["table"], folder / "permutation.csv")
        if args.stability:
            tl.stability(adata, n_halves=args.stability, random_state=args.seed)
            _to_csv(adata.uns[Keys().uns]["stability"]["genes"], folder / "stability.csv")
        _to_csv(get.rank_genes_df(adata), folder / "gene_rankings.csv")
        _to_csv(get.axes_df(adata), folder / "axes.csv")
        _to_csv(get.design_df(adata), folder / "design.csv")
        certificate = _certificate(adata, args)
        results = adata.uns[Keys().uns]
        if certificate is not None:
            results["certificate"] = certificate
            _to_csv(certificate, folder / "certificate.csv")
            tl.held_out_scores(adata)
        if args.path:
            tl.path(adata, n_genes=args.path, mode=args.mode)
        results["warnings"] = np.array(args.warnings, dtype=object)
        figures = list(report.pictures(adata))
        (folder / "figures").mkdir()
        for figure in figures:
            (folder / "figures" / f"{figure.name}.png").write_bytes(figure.png)
        report.write(adata, folder / "report.html", title=args.title, figures=figures)
        summary = {
            "n_cells": adata.n_obs,
            "n_genes": adata.n_vars,
            "params": results["params"],
            "fit": results["fit"],
            "variance": results["variance"].to_dict("records"),
            "axes": results["axes"]["axis"].tolist(),
            "not_estimable": results["estimability"].query("not estimable")[["effect", "reason"]].to_dict("records"),
            "versions": results["versions"],
        }
        (folder / SUMMARY).write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
        adata.write_h5ad(folder / "result.h5ad")
    fit = results["fit"]
    print(
        f"{len(results['axes'])} axes, shrinkage {fit['shrinkage']:.3g}, solver {fit['solver']}, "
        f"residual {fit['residual']:.0e}"
    )
    if certificate is not None:
        print("held out, in units of within-group variance (own effect, cross-talk):")
        print(f"  {'axis':<28} {'all genes':>16} {'selected genes':>16}")
        for axis, part in certificate.groupby("axis", sort=False):
            pairs = {row.genes: f"{row.snr:>8.2f} {row.crosstalk:>7.3f}" for row in part.itertuples()}
            print(f"  {axis:<28} {pairs.get('all', ''):>16} {pairs.get('selected', ''):>16}")
    if args.permutations:
        print("permutation p-values:")
        for row in results["permutation"]["table"].itertuples():
            print(f"  {row.effect:<28} {row.pval:.3g} ({row.n_perms} permutations of {row.unit}s)")
    print(f"wrote {out}/: {', '.join(sorted(p.name for p in out.iterdir()))}")


def _certificate(adata: AnnData, args: argparse.Namespace) -> pd.DataFrame | None:
    """The certificate of the fit in adata; None when no fold can give one."""
    try:
        tl.certify(adata, n_repeats=args.repeats, random_state=args.seed)
    except ValueError as error:
        logger.warning("no certificate.csv: %s (%d cells)", error, adata.uns[Keys().uns]["fit"]["n_cells"])
        return None
    return get.certificate_df(adata)


@contextlib.contextmanager
def _whole_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside ``out`` that takes its place if the block succeeds, and else disappears."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out must name a folder")
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            raise UsageError(f"{out} exists; name another folder with --out, or add --overwrite")
        if not (out / SUMMARY).is_file():
            raise UsageError(f"{out} holds files that flda did not write; name another folder with --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UsageError(f"cannot write to {out.parent}: {error.strerror}") from None
    try:
        yield folder
        if out.exists():
            shutil.rmtree(out)
        folder.chmod(0o755)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path, *, backed: bool = False) -> AnnData:
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    try:
        return read_h5ad(path, backed="r" if backed else None)
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001  h5py and anndata raise many kinds for a broken file
        raise UsageError(
            f"cannot read {path} as h5ad; it is damaged or of another format ({type(error).__name__})"
        ) from None


def _to_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, float_format="%.8g", lineterminator="\n")


def _log_to_stderr() -> list[str]:
    """Show warnings, and on a terminal every step; returns a list that takes the warnings as they come."""
    seen: list[str] = []

    def new(record: logging.LogRecord) -> bool:
        """Whether a line says something new: a step of the run may find what the one before has found."""
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


def _parser() -> argparse.ArgumentParser:
    commands = {
        "demo": demo, "run": run, "report": write_report, "check": check, "power": plan,
        "list": list_datasets, "fetch": fetch_dataset, "verify": verify_datasets,
    }  # fmt: skip
    return parser(commands)
