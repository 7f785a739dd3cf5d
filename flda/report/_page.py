"""The page: results in, one HTML file out. Every text from the data is escaped here."""

from __future__ import annotations

import base64
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import get
from .._adata import read
from .._data.fingerprint import fingerprint
from .._logging import get_logger
from ..pl._common import params
from ._answers import Answer, answers
from ._figures import Picture, pictures

logger = get_logger(__name__)

N_RANKED = 50  # rows of the gene table per axis, or as many as were selected

CITATION = (
    "Qiao M. Factorized discriminant analysis for genetic signatures of neuronal phenotypes. Front. Neuroinform. "
    "17:1265079 (2023). doi:10.3389/fninf.2023.1265079",
    "Qiao M, Meister M. Factorized linear discriminant analysis for phenotype-guided representation learning of "
    "neuronal gene expression data. arXiv:2010.02171 (2020).",
)


def write(
    adata: AnnData,
    path: str | os.PathLike,
    *,
    title: str | None = None,
    key: str = "flda",
    figures: Iterable[Picture] | None = None,
) -> None:
    """Write the report of the results in an AnnData, one HTML file that needs nothing else.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`, and of any later step; what was not run is said to be so.
    path
        File to write, whole or not at all; an existing one is replaced.
    title
        Heading; by default the factors.
    key
        The ``key_added`` of the fit.
    figures
        Figures that were drawn already; by default they are drawn.

    Raises
    ------
    ValueError
        When ``adata`` holds no results.
    OSError
        When the file cannot be written.

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


def render(
    adata: AnnData, *, title: str | None = None, key: str = "flda", figures: Iterable[Picture] | None = None
) -> str:
    """The report as text; equal results give equal text.

    Parameters
    ----------
    adata, title, key, figures
        As in :func:`write`.
    """
    results, fit = get.results(adata, key), params(adata, key)
    ranking = get.rank_genes_df(adata, key=key)
    drawn = list(pictures(adata, key) if figures is None else figures)
    folder = resources.files("flda") / "report"
    page = Template((folder / "template.html").read_text("utf-8"))
    return page.substitute(
        version=escape(str(results["versions"]["flda"])),
        style=(folder / "style.css").read_text("utf-8"),
        script=(folder / "table.js").read_text("utf-8"),
        title=escape(title or " × ".join(fit["factors"])),
        subtitle=escape(_subtitle(results, fit)),
        answers="\n".join(map(_answer, answers(adata, ranking, key))),
        design=_figures(drawn, "design") + _effects(results),
        axes=_figures(drawn, "axes") + _axes(results),
        scores=_figures(drawn, "scores"),
        genes=_gene_table(ranking) + _figures(drawn, "genes"),
        evidence=_evidence(drawn, results),
        made=_made(adata, results, fit, key),
        cite=_cite(results),
    )


def _subtitle(results: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    nuisance = f"; nuisance: {', '.join(fit['nuisance'])}" if fit["nuisance"] else ""
    donor = f"; donors: {fit['donor']}" if fit["donor"] else ""
    return (
        f"Factorized linear discriminant analysis of {int(results['fit']['n_cells']):,} cells and "
        f"{int(results['fit']['n_genes']):,} genes by {' × '.join(fit['factors'])}{nuisance}{donor}"
    )


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
    """Width and height at 96 dots an inch, from the header of the file, so that the page does not jump."""
    from ._figures import DPI

    width, height = (int.from_bytes(png[i : i + 4], "big") * 96 // DPI for i in (16, 20))
    return f'width="{width}" height="{height}"'


def _effects(results: Mapping[str, Any]) -> str:
    table = results["estimability"][["effect", "df", "estimable", "reason"]]
    return _table(table.assign(estimable=np.where(table["estimable"].astype(bool), "yes", "no")))


def _axes(results: Mapping[str, Any]) -> str:
    table = results.get("certificate")
    if table is None:
        return '<p class="note">No certificate was computed; run <code>flda.tl.certify(adata)</code>.</p>'
    shown = table[["axis", "genes", "snr", "crosstalk"]].rename(
        columns={"snr": "own effect", "crosstalk": "cross-talk"}
    )
    total = table["snr"] + table["crosstalk"].clip(lower=0)
    shown["own share"] = (table["snr"] / total).where(table["snr"] > 0, 0.0)
    for column, name in {"sd_snr": "sd", "accuracy": "accuracy", "chance": "chance"}.items():
        if column in table:
            shown[name] = table[column]
    return (
        _table(shown)
        + '<p class="note">Own effect and cross-talk in units of the variance within groups, on cells that were not '
        "fitted. Own share: own effect over own effect and cross-talk.</p>"
    )


def _gene_table(ranking: pd.DataFrame) -> str:
    shown = ranking[(ranking["rank"] <= N_RANKED) | ranking["selected"]]
    numeric = {c for c in shown if pd.api.types.is_numeric_dtype(shown[c]) and shown[c].dtype != bool}
    # what was not run has no numbers: its columns are in the download, not on the page
    hidden = {c: " hidden" if shown[c].isna().all() else "" for c in shown}
    heads = "".join(
        f'<th scope="col" data-name="{c}"{" class=n data-number" if c in numeric else ""}{hidden[c]}>'
        f'<button type="button">{c}</button></th>'
        for c in shown
    )
    exact = {c: _exact(shown[c]) for c in shown}
    short = {c: [f"{v:.3g}" if np.isfinite(v) else "" for v in shown[c]] if c in numeric else exact[c] for c in shown}
    rows = []
    for i, chosen in enumerate(shown["selected"]):
        cells = []
        for c in shown:
            value, text = exact[c][i], short[c][i]
            own = "" if value == text else f' data-v="{escape(value)}"'
            cells.append(f"<td{' class=n' if c in numeric else ''}{own}{hidden[c]}>{escape(text)}</td>")
        rows.append(f"<tr{' class=chosen' if chosen else ''}>{''.join(cells)}</tr>")

    def options(name: str) -> str:
        return "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in dict.fromkeys(shown[name]))

    return (
        '<div id="controls" hidden>'
        '<label>Genes <input id="search" type="search" placeholder="name, or several" autocomplete="off"></label>'
        f'<label>Effect <select id="effect"><option value="">all</option>{options("effect")}</select></label>'
        f'<label>Axis <select id="axis"><option value="">all</option>{options("axis")}</select></label>'
        '<label><input id="selected" type="checkbox"> selected only</label>'
        '<button id="download" type="button">Download CSV</button><span id="shown" role="status"></span></div>\n'
        f'<div class="scroll tall"><table id="genes"><thead><tr>{heads}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>\n"
        f'<p class="note">The first {N_RANKED} genes of every axis, selected ones shaded; gene_rankings.csv and '
        "flda.get.rank_genes_df(adata) have all. Score: loading times standard deviation within groups. Specificity: "
        "own effect's share of the gene's F over all effects. The download holds the rows shown.</p>\n"
    )


def _exact(column: pd.Series) -> list[str]:
    """Values as in gene_rankings.csv."""
    if pd.api.types.is_float_dtype(column):
        return ["" if pd.isna(v) else f"{v:.8g}" for v in column]
    return ["" if pd.isna(v) else str(v) for v in column]


def _evidence(drawn: Iterable[Picture], results: Mapping[str, Any]) -> str:
    parts = [_figures(drawn, "evidence")]
    if "permutation" in results:
        parts.append(f"<h3>Permutation test</h3>\n{_table(results['permutation']['table'])}")
    missing = {
        "permutation": "Permutation test: not run (flda.tl.permutation_test).",
        "stability": "Selection stability: not run (flda.tl.stability).",
        "path": "Number of genes: not run (flda.tl.path).",
    }
    parts += [f'<p class="note">{escape(text)}</p>' for name, text in missing.items() if name not in results]
    return "\n".join(part for part in parts if part)


def _made(adata: AnnData, results: Mapping[str, Any], fit: Mapping[str, Any], key: str) -> str:
    messages = [str(m) for m in results.get("warnings", ())]
    selection = read.plain(_selection(adata, key))
    X = read.expression(adata, fit["layer"])
    labels = adata.obs[[*fit["factors"], *fit["nuisance"], *([fit["donor"]] if fit["donor"] else [])]]
    data = {
        "cells × genes": f"{adata.n_obs} × {adata.n_vars}",
        "matrix": "X" if fit["layer"] is None else f"layers[{fit['layer']!r}]",
        "SHA-256": fingerprint(X, [adata.obs_names, adata.var_names, *(labels[c] for c in labels)]),
    }
    parts = [
        "<h3>Data</h3>", _pairs(data),
        '<p class="note">The hash covers the matrix, the names of cells and genes, and the labels of the design.</p>',
        "<h3>Parameters of the fit</h3>", _pairs(fit),
        "<h3>Fit</h3>", _pairs(results["fit"]),
    ]  # fmt: skip
    if selection:
        parts += ["<h3>Parameters of the selection</h3>", _pairs(selection)]
    parts += ["<h3>Versions</h3>", _pairs(results["versions"]), "<h3>Warnings</h3>"]
    parts.append("".join(f"<p>{escape(m)}</p>" for m in messages) or '<p class="note">None was recorded.</p>')
    return "\n".join(parts)


def _selection(adata: AnnData, key: str) -> Mapping[str, Any]:
    """Parameters of :func:`flda.tl.rank_genes` for this fit, if it was run."""
    for value in adata.uns.values():
        run = value.get("params", {}) if isinstance(value, Mapping) else {}
        if isinstance(run, Mapping) and run.get("method") == "flda" and run.get("key") == key:
            return {name: run[name] for name in ("n_genes", "mode") if name in run}
    return {}


def _cite(results: Mapping[str, Any]) -> str:
    own = f"flda {results['versions']['flda']}, BSD-3-Clause."
    return "\n".join(f"<p>{escape(line)}</p>" for line in (*CITATION, own))


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(k))}</th><td class=wrap>{escape(_text(v))}</td></tr>" for k, v in sorted(values.items())
    )
    return f'<div class="scroll"><table>{rows}</table></div>'


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items())
    return "none" if value is None else str(value)


def _table(table: pd.DataFrame) -> str:
    """A small table: text escaped, numbers to three digits and on the right."""
    numeric = {c for c in table if pd.api.types.is_numeric_dtype(table[c])}
    heads = "".join(f"<th{' class=n' if c in numeric else ''}>{escape(str(c))}</th>" for c in table)
    rows = "".join(
        "<tr>" + "".join(
            f"<td class=n>{'' if pd.isna(row[c]) else f'{row[c]:.3g}'}</td>" if c in numeric
            else f"<td{' class=wrap' if len(str(row[c])) > 40 else ''}>{escape(str(row[c]))}</td>"
            for c in table
        ) + "</tr>\n"
        for _, row in table.iterrows()
    )  # fmt: skip
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>\n'
