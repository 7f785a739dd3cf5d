"""Tables of the report as HTML; every text is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

N_RANKED = 50  # rows of the gene table per axis, or as many as were selected


def gene_table(ranking: pd.DataFrame) -> str:
    """The ranking with its controls: searched, filtered, sorted and downloaded by the script of the page."""
    shown = ranking[(ranking["rank"] <= N_RANKED) | ranking["selected"]]
    numeric = {c for c in shown if pd.api.types.is_numeric_dtype(shown[c]) and shown[c].dtype != bool}
    # columns without numbers belong to steps that were not run: they are in the download, not on the page
    hidden = {c: " hidden" if shown[c].isna().all() else "" for c in shown}
    heads = "".join(
        f'<th scope="col" data-name="{c}"{" class=n data-number" if c in numeric else ""}{hidden[c]}>'
        f'<button type="button">{c}</button></th>'
        for c in shown
    )
    exact = {c: _exact(shown[c]) for c in shown}
    short = {c: [f"{v:.3g}" if np.isfinite(v) else "" for v in shown[c]] if c in numeric else exact[c] for c in shown}
    rows, clear = [], shown["significant"].to_numpy()
    for i, chosen in enumerate(shown["selected"]):
        cells = []
        for c in shown:
            value, text = exact[c][i], short[c][i]
            own = "" if value == text else f' data-v="{escape(value)}"'
            cells.append(f"<td{' class=n' if c in numeric else ''}{own}{hidden[c]}>{escape(text)}</td>")
        style = "" if not chosen else " class=chosen" if clear[i] else ' class="chosen doubtful"'
        rows.append(f"<tr{style}>{''.join(cells)}</tr>")

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
        '<div id="means" hidden></div>'
        f'<p class="note">The table begins with the first {N_RANKED} genes of every axis, with selected genes shaded; '
        "a search finds all genes, with three digits. Point at a row, or tap it, for the mean of the gene in every "
        "group. gene_rankings.csv and flda.get.rank_genes_df(adata) have all genes in full. The score is the loading "
        "times the "
        "standard deviation within groups: what the axis uses. The pattern is the correlation of the gene with the "
        "axis, and F compares the gene's own differences with chance: what differs. The specificity is the share of "
        "the axis's own effect in what the gene varies with. The names of selected genes that do not differ "
        "significantly on their own are struck through. The download contains the rows that are shown.</p>\n"
    )


MOST_MEANS = 600_000  # group means on the page; beyond it, only the genes of the table have them


def all_genes(ranking: pd.DataFrame, means: pd.DataFrame | None) -> str:
    """All rows of the ranking, and group means, as JSON for the script of the page; numbers have three digits.

    A column that is the same for all axes of an effect is stored once for the effect, and one of a single value once.
    """
    genes = list(dict.fromkeys(ranking["gene"].astype(str)))
    place = {gene: i for i, gene in enumerate(genes)}
    columns = [c for c in ranking if c not in ("gene", "axis", "effect")]
    axes: dict[str, Any] = {}
    seen: dict[tuple[str, str], list] = {}
    for axis, part in ranking.groupby("axis", sort=False):
        part = part.iloc[np.argsort([place[g] for g in part["gene"].astype(str)])]
        effect, values = str(part["effect"].iloc[0]), {}
        for column in columns:
            found = _short(part[column])
            first = next(
                (a for (a, c), v in seen.items() if c == column and axes[a]["effect"] == effect and v == found), None
            )
            if len(set(map(str, found))) == 1:
                values[column] = found[0]
            elif first is not None:
                values[column] = {"as": first}
            else:
                values[column] = seen[str(axis), column] = found
        axes[str(axis)] = {"effect": effect, "values": values}
    data: dict[str, Any] = {"genes": genes, "axes": axes, "groups": [], "means": {}}
    if means is not None:
        if means.size > MOST_MEANS:
            shown = ranking[(ranking["rank"] <= N_RANKED) | ranking["selected"]]["gene"]
            means = means.loc[means.index.isin(set(shown))]
        data["groups"] = list(map(str, means.columns))
        data["means"] = {
            str(g): [float(f"{v:.3g}") for v in row] for g, row in zip(means.index, means.to_numpy(), strict=True)
        }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")  # no name may end the script


def _short(column: pd.Series) -> list:
    if column.dtype == bool:
        return ["True" if v else "False" for v in column]
    if pd.api.types.is_numeric_dtype(column):
        return [None if not np.isfinite(v) else int(v) if float(v).is_integer() else float(f"{v:.3g}") for v in column]
    return ["" if pd.isna(v) else str(v) for v in column]


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values as a table of two columns, sorted by name."""
    rows = "".join(
        f"<tr><th>{escape(str(k))}</th><td class=wrap>{escape(_text(v))}</td></tr>" for k, v in sorted(values.items())
    )
    return f'<div class="scroll"><table>{rows}</table></div>'


def small_table(table: pd.DataFrame) -> str:
    """A table without controls; numbers have three digits and are aligned on the right."""
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


def _exact(column: pd.Series) -> list[str]:
    """Values as in gene_rankings.csv."""
    if pd.api.types.is_float_dtype(column):
        return ["" if pd.isna(v) else f"{v:.8g}" for v in column]
    return ["" if pd.isna(v) else str(v) for v in column]


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items())
    return "none" if value is None else str(value)
