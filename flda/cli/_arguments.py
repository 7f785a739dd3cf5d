"""The arguments of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from .._data.device import DEVICES

FOLDS = 5  # of the certificate
JOBS = "threads on which folds, halves and studies run (default 1)"


# command -> what it does
DESCRIPTIONS = {
    "demo": "Analyse simulated T4/T5 cells and compare the selected genes with those that carry the effects.",
    "run": "Analyse an h5ad file and write a folder with rankings, tables, figures, a certificate and a report.",
    "rank": "Write the gene rankings of a result.h5ad: as a CSV, or as one .rnk file per axis.",
    "report": "Write the report of a result.h5ad, for instance after further steps in Python.",
    "check": "Print the number of cells per group, and which effects the design can estimate.",
    "predict": "Predict the level of every factor for new cells: a CSV with levels, and the probability of each level.",
    "panel": "Choose a panel of genes for all axes of a result.h5ad, and write it as a CSV.",
    "power": "Estimate how many cells and donors per group a study needs, from pilot data with raw counts.",
    "list": "Print the data sets that can be fetched.",
    "fetch": "Find or download, and verify, every file of a data set; downloads go to FLDA_DATA_DIR if that is set.",
    "verify": "Compare the files of data sets that are present with their checksums, without using the network.",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser; parsed arguments hold the name of the chosen command in ``command``."""
    out = argparse.ArgumentParser(
        prog="flda", description="Factorized linear discriminant analysis for single-cell expression."
    )
    out.add_argument("--version", action="version", version=f"flda {__version__}")
    commands = out.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, summary: str, group=commands) -> argparse.ArgumentParser:
        sub = group.add_parser(name, help=summary, description=DESCRIPTIONS[name])
        sub.set_defaults(command=name)
        return sub

    demo = command("demo", "analyse simulated T4/T5 cells, offline, in less than a minute")
    _fit_options(demo)
    demo.set_defaults(
        interactions="all",
        nuisance=None,
        formula=None,
        numeric=None,
        contrast=None,
        donor=None,
        layer=None,
        mask_var=None,
        n_components=None,
        weights="random",
        error="auto",
    )

    run = command("run", "analyse an h5ad file and write rankings, tables, figures and a report")
    _design_options(run)
    _fit_options(run)
    _run_options(run)

    _rank_options(command("rank", "write the gene rankings of a result.h5ad again, sorted by what differs, or as .rnk"))
    _report_options(command("report", "write the report of a result.h5ad as one HTML file"))
    check = command("check", "print groups and effects, look at values, depth and donors, and estimate the time")
    _design_options(check)
    check.add_argument("--donor", metavar="COLUMN", help="obs column with the donor")
    check.add_argument("--layer", help="layer to use instead of X")
    _labels_option(check)
    check.add_argument("--no-time", action="store_true", help="do not estimate the time that flda run takes")

    _predict_options(command("predict", "predict the levels of new cells from a result.h5ad"))

    _panel_options(command("panel", "choose a panel of genes for all axes of a result.h5ad, and certify it"))

    power = command("power", "estimate how many cells and donors per group a study needs")
    _design_options(power, formulas=False)
    _power_options(power)

    data = commands.add_parser("datasets", help="public data sets").add_subparsers(required=True, metavar="ACTION")
    command("list", "list the data sets that can be fetched", data)
    command("fetch", "download and verify a data set", data).add_argument("name", metavar="NAME")
    verify = command("verify", "compare files that are present with their checksums", data)
    verify.add_argument("name", metavar="NAME", nargs="?", help="only this data set; also says what it should hold")
    verify.add_argument("--load", action="store_true", help="load the data set and compare what it holds")
    return out


def _design_options(sub: argparse.ArgumentParser, *, formulas: bool = True) -> None:
    """The file, and the columns of its design."""
    sub.add_argument("file", type=Path, metavar="FILE.h5ad")
    design = sub.add_mutually_exclusive_group(required=True)
    design.add_argument("--factors", nargs="+", metavar="COLUMN", help="obs columns of the factors")
    if formulas:
        design.add_argument(
            "--formula", metavar="FORMULA", help="a formula such as '~ drug * dose + batch' instead (needs formulaic)"
        )
    _model_options(sub)
    sub.add_argument(
        "--nuisance",
        nargs="+",
        metavar="COLUMN",
        help="obs columns of effects without axes, such as a batch",
    )
    sub.add_argument(
        "--interactions",
        nargs="+",
        default=["all"],
        metavar="A:B",
        help="all (default), estimable, none, or names such as A:B",
    )


def _model_options(sub: argparse.ArgumentParser) -> None:
    """Numbers and contrasts."""
    sub.add_argument(
        "--numeric",
        nargs="+",
        type=_numeric,
        metavar="NAME[:KIND]",
        help="columns that are numbers; KIND is a degree (default 1), trend or spline",
    )
    sub.add_argument(
        "--contrast",
        action="append",
        type=_contrast,
        metavar="NAME=SIDE vs SIDE",
        help="a named contrast, with sides such as 'type:B,condition:stim'; can be given several times",
    )


def _fit_options(sub: argparse.ArgumentParser) -> None:
    """Options of the commands that fit and write a folder of results."""
    sub.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the results; it appears only when it is complete"
    )
    sub.add_argument(
        "--n-genes", type=_size, default=20, metavar="K", help="genes selected per axis, or cv (default 20)"
    )
    sub.add_argument(
        "--mode",
        choices=["axis", "marker"],
        default="axis",
        help="axis selects the genes of the best axis, marker genes that are specific on their own (default axis)",
    )
    _sort_option(sub)
    sub.add_argument(
        "--objective",
        choices=["ratio", "difference"],
        default="ratio",
        help="ratio counts other effects as noise, difference is the form of the paper (default ratio)",
    )
    sub.add_argument(
        "--penalty",
        type=float,
        default=1.0,
        help="penalty on the variance of other effects (default 1; inf removes it from the fitted group means)",
    )
    sub.add_argument(
        "--group-means",
        choices=["observed", "shrunken"],
        default="observed",
        help="shrunken moves the means of small groups towards what the effects predict (default observed)",
    )
    sub.add_argument(
        "--shrinkage",
        type=_number_or_name,
        default="auto",
        help="a number in [0, 1], or auto, cv, ledoit-wolf or oas (default auto)",
    )
    sub.add_argument(
        "--folds",
        type=_whole(2),
        default=FOLDS,
        metavar="N",
        help="largest number of folds of the certificate and of held-out scores (default 5)",
    )
    sub.add_argument(
        "--repeats",
        type=_whole(1),
        default=1,
        metavar="N",
        help="number of times that the certificate assigns cells to folds (default 1)",
    )
    sub.add_argument(
        "--permutations",
        type=_whole(1, or_none=True),
        default=0,
        metavar="N",
        help="also test effects and genes, with N resamples each",
    )
    sub.add_argument(
        "--stability",
        type=_whole(2, or_none=True),
        default=0,
        metavar="N",
        help="also count how often N halves of the cells select each gene",
    )
    sub.add_argument(
        "--path",
        type=_whole(1),
        nargs="+",
        metavar="K",
        help="also compare axes with these numbers of genes, which takes longer",
    )
    sub.add_argument(
        "--allow-counts", action="store_true", help="fit values that look like raw counts, which are refused otherwise"
    )
    sub.add_argument("--device", choices=DEVICES, default="cpu", help="cuda uses a GPU through cupy (default cpu)")
    sub.add_argument(
        "--seed", type=_whole(0, most=2**32 - 1), default=0, help="seed of folds, tests and halves (default 0)"
    )
    sub.add_argument("--jobs", type=_whole(1), metavar="N", help=JOBS)
    sub.add_argument("--overwrite", action="store_true", help="replace a folder that holds only files that flda wrote")


def _run_options(sub: argparse.ArgumentParser) -> None:
    """Further options of ``flda run``."""
    sub.add_argument("--donor", metavar="COLUMN", help="obs column with the donor, for folds, tests and the error term")
    sub.add_argument(
        "--error",
        choices=["auto", "within", "residual"],
        default="auto",
        help="the noise: what varies within groups, or what the effects leave (default auto: residual if no group has "
        "two cells, or with --weights of samples)",
    )
    sub.add_argument(
        "--weights",
        default="random",
        metavar="COLUMN",
        help="obs column with the cells of pseudobulk samples, by which they weigh; or random (default) or equal",
    )
    sub.add_argument("--layer", help="layer to use instead of X")
    sub.add_argument("--mask-var", metavar="COLUMN", help="boolean var column of the genes to use")
    sub.add_argument(
        "--n-components", "--n-comps", type=int, metavar="N", help="axes per effect (default: all useful ones)"
    )
    _labels_option(sub)
    counts = sub.add_argument_group("counts")
    counts.add_argument(
        "--from-counts", action="store_true",
        help="the file holds counts (h5ad, zarr, a 10x .h5 file or a folder with matrix.mtx): filter cells and genes, "
        "scale every cell to 10,000 counts, and take log1p",
    )  # fmt: skip
    counts.add_argument(
        "--min-genes", type=_whole(0), default=200, metavar="N", help="detected genes of a cell (default 200)"
    )
    counts.add_argument("--min-cells", type=_whole(0), default=3, metavar="N", help="cells with a gene (default 3)")
    counts.add_argument(
        "--max-mito", type=float, default=20.0, metavar="PERCENT", help="mitochondrial counts of a cell (default 20)"
    )
    sub.add_argument("--backed", action="store_true", help="read the matrix in blocks from disk instead of into memory")


def _labels_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--labels", type=Path, metavar="FILE.csv", help="table whose first column names cells; the others go into obs"
    )


def _sort_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--sort-by",
        choices=["score", "pattern", "F"],
        default="score",
        help="order of the genes: score for those that the axis uses, pattern or F for those that differ "
        "(default score)",
    )


def _rank_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="RESULT.h5ad")
    sub.add_argument("--effect", help="only the axes of this effect (default: all)")
    _sort_option(sub)
    sub.add_argument("--out", type=Path, metavar="FILE.csv", help="default: gene_rankings_SORT.csv next to the file")
    sub.add_argument(
        "--rnk",
        type=Path,
        metavar="DIR",
        help="write one file per axis for gene-set programs into this new folder instead: every gene with its score, "
        "or its pattern with --sort-by pattern",
    )
    sub.add_argument("--without-cancelling", action="store_true", help="leave cancelling genes out")
    sub.add_argument("--key", default="flda", help="key of the fit (default flda)")
    sub.add_argument("--overwrite", action="store_true", help="replace files that flda wrote")


def _report_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="RESULT.h5ad")
    sub.add_argument("--out", type=Path, metavar="FILE.html", help="default: report.html next to the file")
    sub.add_argument("--title", help="heading (default: the factors)")
    sub.add_argument("--key", default="flda", help="key of the fit (default flda)")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _predict_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="RESULT.h5ad", help="the reference, a result of flda run")
    sub.add_argument("new", type=Path, metavar="NEW.h5ad", help="the new cells, normalised like the reference")
    sub.add_argument("--out", type=Path, metavar="FILE.csv", help="default: NEW_predictions.csv in this folder")
    sub.add_argument(
        "--prior",
        choices=["equal", "frequency"],
        default="equal",
        help="prior of the levels: equal, or their shares in the reference (default equal)",
    )
    sub.add_argument("--key", default="flda", help="key of the fit (default flda)")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _panel_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", type=Path, metavar="RESULT.h5ad")
    sub.add_argument(
        "--n-genes", type=_whole(1), metavar="K", help="genes of the panel; with --budget the largest number"
    )
    sub.add_argument("--effects", nargs="+", metavar="EFFECT", help="effects that the panel is for (default: all)")
    sub.add_argument("--include", nargs="+", default=[], metavar="GENE", help="genes that the panel holds in any case")
    sub.add_argument("--exclude", nargs="+", default=[], metavar="GENE", help="genes that may not be chosen")
    sub.add_argument("--mask-var", metavar="COLUMN", help="boolean var column of the genes that may be chosen")
    sub.add_argument(
        "--min-per-axis", type=_whole(0), default=0, metavar="N", help="least number of genes for every axis"
    )
    sub.add_argument("--cost", metavar="COLUMN", help="var column with the cost of every gene; needs --budget")
    sub.add_argument("--budget", type=float, metavar="SUM", help="largest sum of the costs; needs --cost")
    sub.add_argument(
        "--folds", type=_whole(2), default=5, metavar="N", help="largest number of folds of the certificate (default 5)"
    )
    sub.add_argument("--no-certificate", action="store_true", help="do not judge the panel on held-out cells")
    sub.add_argument("--out", type=Path, metavar="FILE.csv", help="default: panel.csv next to the file")
    sub.add_argument("--key", default="flda", help="key of the fit (default flda)")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _power_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--n-cells", type=int, nargs="+", default=[10, 20, 50, 100], metavar="N", help="cells per group to try"
    )
    sub.add_argument(
        "--n-donors", type=_whole(1), nargs="+", metavar="D", help="donors per group to try; needs --donor"
    )
    sub.add_argument("--purity", type=float, default=0.9, help="target for the purity of the first axes (default 0.9)")
    sub.add_argument(
        "--stability", type=float, default=0.7, help="target for the stability of the gene lists (default 0.7)"
    )
    sub.add_argument("--n-genes", type=_whole(1), default=20, help="genes selected per axis (default 20)")
    sub.add_argument(
        "--studies",
        type=_whole(1),
        default=20,
        help="simulated truths, each with two studies of every size (default 20)",
    )
    sub.add_argument("--donor", metavar="COLUMN", help="obs column with the donor")
    sub.add_argument("--layer", default="counts", help="layer with raw counts (default counts; '' for X)")
    sub.add_argument("--mask-var", metavar="COLUMN", help="boolean var column of the genes to use")
    sub.add_argument("--out", type=Path, help="folder for the results; it appears only when it is complete")
    sub.add_argument("--overwrite", action="store_true", help="replace a folder that holds only files that flda wrote")
    sub.add_argument("--seed", type=_whole(0, most=2**32 - 1), default=0, help="seed (default 0)")
    sub.add_argument("--jobs", type=_whole(1), metavar="N", help=JOBS)


def _size(text: str) -> int | str:
    """Read ``K`` or ``cv``."""
    if text == "cv":
        return text
    try:
        return _whole(1)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of genes; use a whole number from 1 on, or cv"
        ) from None


def _whole(least: int, *, or_none: bool = False, most: int | None = None) -> Callable[[str], int]:
    """Return a function that reads a whole number from ``least`` on; with ``or_none`` also 0."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = -1
        if not (least <= number <= (number if most is None else most) or (or_none and number == 0)):
            limits = f"from {least} on" if most is None else f"from {least} to {most}"
            none = ", or 0 for none" if or_none and least else ""
            raise argparse.ArgumentTypeError(f"{text!r} cannot be used; use a whole number {limits}{none}")
        return number

    return read


def _numeric(text: str) -> tuple[str, int | str]:
    """Read ``NAME`` or ``NAME:KIND``."""
    name, colon, kind = text.rpartition(":")
    if not colon:
        return text, 1
    return name, int(kind) if kind.isdigit() else kind


def _contrast(text: str) -> tuple[str, tuple[dict[str, str], dict[str, str]]]:
    """Read ``NAME=FACTOR:LEVEL,FACTOR:LEVEL vs FACTOR:LEVEL``."""
    name, _, given = text.partition("=")
    sides = [dict(part.strip().partition(":")[::2] for part in side.split(",")) for side in f" {given} ".split(" vs ")]
    if not name or len(sides) != 2 or not all(level for side in sides for level in side.values()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no contrast; write it like 'stim in B=type:B,condition:stim vs type:B,condition:ctrl'"
        )
    return name.strip(), (sides[0], sides[1])


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
