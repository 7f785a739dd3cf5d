"""The report as one HTML page. Every text that comes from the data is escaped here."""

from __future__ import annotations

import base64
import os
import tempfile
import time
from collections.abc import Iterable
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import get
from .._adata import read
from .._adata.record import Record
from .._data.fingerprint import fingerprint
from .._docs import documented
from .._logging import get_logger
from ._answers import Answer, answers
from ._axes import RULE, Verdict, methods, verdicts
from ._changes import changes, group_means
from ._figures import DPI, Picture, pictures
from ._tables import all_genes, gene_table, pairs, small_table

logger = get_logger(__name__)

CITATION = (
    "Qiao M. Factorized discriminant analysis for genetic signatures of neuronal phenotypes. Front. Neuroinform. "
    "17:1265079 (2023). doi:10.3389/fninf.2023.1265079",
    "Qiao M, Meister M. Factorized linear discriminant analysis for phenotype-guided representation learning of "
    "neuronal gene expression data. arXiv:2010.02171 (2020).",
)


@documented
def write(
    adata: AnnData,
    path: str | os.PathLike,
    *,
    title: str | None = None,
    key: str = "flda",
    figures: Iterable[Picture] | None = None,
) -> None:
    """Write the results in an AnnData as a report: one HTML file that needs no other files.

    Parameters
    ----------
    {adata}
        Results of later steps are included; the report names the steps that were not run.
    path
        File to write. It replaces an existing file, but only when the report is complete.
    title
        Heading of the report; by default the names of the factors.
    {key}
    figures
        Figures that have already been drawn. By default, this function draws them.

    Raises
    ------
    ValueError
        If ``adata`` holds no results.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import flda, pathlib, tempfile
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     flda.report.write(adata, pathlib.Path(folder) / "report.html")
    ...     "dendrite_1" in (pathlib.Path(folder) / "report.html").read_text()
    True
    """
    start = time.perf_counter()
    page, path = render(adata, title=title, key=key, figures=figures), Path(path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as handle:
        temporary = Path(handle.name)
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    logger.info("report: wrote %s, %.1f MB (%.1f s)", path.name, len(page) / 1e6, time.perf_counter() - start)


@documented
def render(
    adata: AnnData, *, title: str | None = None, key: str = "flda", figures: Iterable[Picture] | None = None
) -> str:
    """Return the report as HTML text; equal results give equal text.

    Parameters
    ----------
    adata, title, key, figures
        As in :func:`write`.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], interactions=None, shrinkage=0.5)
    >>> flda.report.render(adata, title="Two factors", figures=[]).count("<h1>Two factors</h1>")
    1
    """
    record = Record(adata, key)
    ranking = get.rank_genes_df(adata, key=key)
    changed = changes(record)
    drawn = [p for p in (pictures(adata, key) if figures is None else figures) if not (changed and p.of_data)]
    folder = resources.files("flda") / "report"
    page = Template((folder / "template.html").read_text("utf-8"))
    return page.substitute(
        version=escape(str(record.versions["flda"])),
        style=(folder / "style.css").read_text("utf-8"),
        script=(folder / "table.js").read_text("utf-8"),
        title=escape(title or " × ".join(record.params["factors"])),
        subtitle=escape(_subtitle(record)),
        changed=_changed(changed),
        verdicts=_verdicts(verdicts(record)),
        answers="\n".join(map(_answer, answers(adata, ranking, key))),
        all_genes=all_genes(ranking, None if changed else group_means(record)),
        methods=escape(methods(record)),
        design=_figures(drawn, "design") + _effects(record),
        axes=_figures(drawn, "axes") + _axes(record),
        scores=_figures(drawn, "scores"),
        genes=gene_table(ranking) + _figures(drawn, "genes"),
        tests=_tests(record) + _figures(drawn, "tests"),
        provenance=_provenance(record),
        cite=_cite(record),
    )


def _subtitle(record: Record) -> str:
    params, fit = record.params, record.fit
    nuisance = f"; nuisance: {', '.join(params['nuisance'])}" if params["nuisance"] else ""
    numeric = f"; numeric: {', '.join(params['numeric'])}" if params.get("numeric") else ""
    donor = f"; donors: {params['donor']}" if params["donor"] else ""
    if fit.get("error") == "residual":
        donor += f"; noise: what the effects leave, {int(fit['df_residual'])} degrees of freedom"
    return (
        f"Factorized linear discriminant analysis of {int(fit['n_cells']):,} cells and {int(fit['n_genes']):,} genes "
        f"by {' × '.join(params['factors'])}{nuisance}{numeric}{donor}"
    )


def _changed(reason: str | None) -> str:
    """A note at the top of the page if the AnnData is no longer that of the fit."""
    if reason is None:
        return ""
    return (
        f'<p class="changed" role="alert">The AnnData was changed after the fit: {escape(reason)}. All numbers on this '
        "page are those of the fit; figures of cells and of expression are left out.</p>"
    )


def _verdicts(found: list[Verdict]) -> str:
    """A line per axis: its light, its sentence and the numbers behind the light."""
    lines = "\n".join(
        f'<li><span class="light {v.light}" role="img" aria-label="{v.light}"></span><span>'
        f'<strong>{escape(v.sentence)}</strong> <span class="numbers">{v.light}: {escape(v.numbers)}</span></span></li>'
        for v in found
    )
    return f'<ul class="verdicts">\n{lines}\n</ul>\n<p class="note">{escape(RULE)}</p>'


def _answer(answer: Answer) -> str:
    details = "".join(f'\n<p class="detail">{escape(line)}</p>' for line in answer.details)
    return f'<h3>{escape(answer.question)}</h3>\n<p class="headline">{escape(answer.headline)}</p>{details}'


def _figures(drawn: Iterable[Picture], section: str) -> str:
    shown = "\n".join(
        f'<figure><img alt="{escape(p.caption)}" src="data:image/png;base64,{base64.b64encode(p.png).decode()}" '
        f'{_size(p.png)}><figcaption>{escape(p.caption)}</figcaption></figure>'
        for p in drawn
        if p.section == section
    )  # fmt: skip
    return f'<div class="figures">{shown}</div>\n' if shown else ""


def _size(png: bytes) -> str:
    """Width and height at 96 dots an inch, from the header of the file, so that the page keeps its layout."""
    width, height = (int.from_bytes(png[i : i + 4], "big") * 96 // DPI for i in (16, 20))
    return f'width="{width}" height="{height}"'


def _effects(record: Record) -> str:
    table = record.estimability[["effect", "df", "estimable", "reason"]]
    shown = small_table(table.assign(estimable=np.where(table["estimable"].astype(bool), "yes", "no")))
    if "contrasts" not in record:
        return shown
    rows = [
        {"contrast": name, "groups": of["sides"], "counts against its axis": ", ".join(of["others"])}
        for name, of in record.contrasts.items()
    ]
    return shown + small_table(pd.DataFrame(rows))


def _axes(record: Record) -> str:
    if "certificate" not in record:
        return '<p class="note">No certificate was computed; run <code>flda.tl.certify(adata)</code>.</p>'
    table = record.certificate
    shown = table[["axis", "genes", "snr", "crosstalk"]].rename(columns={"snr": "SNR", "crosstalk": "cross-talk"})
    total = table["snr"] + table["crosstalk"].clip(lower=0)
    shown["own share"] = (table["snr"] / total).where(table["snr"] > 0, 0.0)
    for column, name in {
        "se_snr": "se of SNR",
        "se_crosstalk": "se of cross-talk",
        "accuracy": "accuracy",
        "chance": "chance",
    }.items():
        if column in table:
            shown[name] = table[column]
    return (
        small_table(shown)
        + '<p class="note">SNR is the signal-to-noise ratio: the variance of the axis\'s own effect on held-out cells, '
        "in units of the variance within groups. Cross-talk is the same ratio, summed over all other effects. Own "
        "share is the SNR divided by the sum of SNR and cross-talk. Se is the standard error of an estimate. The noise "
        "of the means is subtracted, so the estimate of an effect that is absent can lie below zero.</p>"
    )


def _tests(record: Record) -> str:
    parts = [f"<h3>Effects</h3>\n{small_table(record.tests['table'])}"] if "tests" in record else []
    missing = {
        "tests": "The effects were not tested (flda.tl.effect_tests).",
        "stability": "The stability of the selection was not measured (flda.tl.stability).",
        "path": "Different numbers of genes were not compared (flda.tl.path).",
    }
    parts += [f'<p class="note">{escape(text)}</p>' for name, text in missing.items() if name not in record]
    return "\n".join(parts) + "\n"


def _provenance(record: Record) -> str:
    params, adata = record.params, record.adata
    X = read.expression(adata, params["layer"])
    columns = [*params["factors"], *params["nuisance"], *([params["donor"]] if params["donor"] else [])]
    labels = read.labels(adata, [c for c in columns if c in read.in_memory(adata.obs)])
    data = {
        "cells × genes": f"{adata.n_obs} × {adata.n_vars}",
        "matrix": "X" if params["layer"] is None else f"layers[{params['layer']!r}]",
        "SHA-256": fingerprint(X, [adata.obs_names, adata.var_names, *(labels[c] for c in labels)]),
    }
    parts = [
        "<h3>Data</h3>", pairs(data),
        '<p class="note">The hash covers the matrix, the names of cells and genes, and the labels of the design.</p>',
        "<h3>Parameters of the fit</h3>", pairs(params),
        "<h3>Fit</h3>", pairs(record.fit),
    ]  # fmt: skip
    if "selection" in record:
        parts += ["<h3>Parameters of the selection</h3>", pairs(record.selection)]
    parts += ["<h3>Versions</h3>", pairs(record.versions), "<h3>Warnings</h3>"]
    parts += [f"<p>{escape(text)}</p>" for text in record.warnings or ["There were no warnings."]]
    return "\n".join(parts)


def _cite(record: Record) -> str:
    own = f"flda {record.versions['flda']}, BSD-3-Clause."
    return "\n".join(f"<p>{escape(line)}</p>" for line in (*CITATION, own))
