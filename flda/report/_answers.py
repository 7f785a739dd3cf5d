"""Answers to what a reader asks first, in sentences made from the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata.record import Record
from ..pl._common import number
from ..pl._results import STABLE
from ._axes import resamples, verdicts

N_GENES = 10
N_NAMED = 6  # names in a list before it is cut
FEW_CELLS = 5


@dataclass(frozen=True)
class Answer:
    """A question, the sentence that answers it, and sentences that qualify it. Plain text."""

    question: str
    headline: str
    details: tuple[str, ...] = ()


def answers(adata: AnnData, ranking: pd.DataFrame, key: str = "flda") -> list[Answer]:
    """Answer which effect separates best, how pure its axis is, by which genes, how stably, and what is missing.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda` and of any later step.
    ranking
        :func:`flda.get.rank_genes_df` of it.
    key
        The ``key_added`` of the fit.
    """
    record = Record(adata, key)
    return [
        _separation(record),
        _purity(record),
        _genes(record, ranking),
        _stability(record, ranking),
        _estimability(record),
    ]


def best_axes(record: Record, genes: str = "all") -> list[str]:
    """Return for every effect the axis with the largest held-out SNR, the best effect first.

    Without a certificate, return the first axis of every effect.
    """
    best = _best(record, genes)
    if best is not None:
        return best["axis"].astype(str).tolist()
    axes = record.sparse_axes if genes == "selected" and "sparse_axes" in record else record.axes
    return axes.drop_duplicates("effect")["axis"].tolist()


def _best(record: Record, genes: str | None = None) -> pd.DataFrame | None:
    """Rows of the certificate for the axis of each effect with the largest SNR, best effect first; None if empty."""
    if "certificate" not in record:
        return None
    table = record.certificate
    table = table[table["genes"] == (genes or table["genes"].iloc[0])].dropna(subset="snr")
    return None if table.empty else table.sort_values("snr", ascending=False, kind="stable").drop_duplicates("effect")


def _separation(record: Record) -> Answer:
    question, best = "Which effect separates best?", _best(record)
    if best is None:
        return Answer(
            question, "Unknown: no certificate was computed.",
            ("Eigenvalues of the fitted cells grow with the number of genes even if there is no effect. "
             "Run flda.tl.certify(adata).",),
        )  # fmt: skip
    first, certificate = best.iloc[0], record.certificate
    headline = (
        f"{first['effect']}: on held-out cells the signal-to-noise ratio (SNR) of the axis {first['axis']} is "
        f"{_with_error(first)}"
    )
    few = certificate[(certificate["genes"] == "selected") & (certificate["axis"] == first["axis"])]
    if first["genes"] == "all" and len(few):
        headline += f" with all genes, and {_with_error(few.iloc[0])} with the selected genes alone"
    details = []
    if len(best) > 1:
        rest = [f"{row['effect']} {_with_error(row)} ({row['axis']})" for _, row in best.iloc[1:].iterrows()]
        details.append(f"SNR of the best axes of the other effects: {listed(rest)}.")
    if "tests" in record:
        details.append(_tests(record.tests["table"]))
    if "scale_check" in record:
        details += record.scale_check["table"]["reading"].astype(str).tolist()
    if weak := [verdict.axis for verdict in verdicts(record) if verdict.light == "red"]:
        details.append(f"Do not rely on {listed(weak)}: see the red {_verb(len(weak), 'light', 'lights')} above.")
    return Answer(question, headline + ".", tuple(details))


def _with_error(row: pd.Series) -> str:
    """The SNR of a row of the certificate with its standard error, where there is one."""
    error = row.get("se_snr", np.nan)
    return number(row["snr"]) + (f" ± {number(error)}" if np.isfinite(error) else "")


def _tests(table: pd.DataFrame) -> str:
    rows = [f"{row.effect} p = {row.pval_adj:.2g}" for row in table.itertuples()]
    units = ", ".join(dict.fromkeys(table["unit"].astype(str)))
    return f"Tests of the effects, adjusted over effects: {listed(rows)} ({resamples(table)}; unit: {units})."


def _purity(record: Record) -> Answer:
    question, best = "How pure is the axis on held-out cells?", _best(record)
    if best is None:
        return Answer(question, "Unknown: no certificate was computed.")
    first = best.iloc[0]
    others = {e: first[f"snr_{e}"] for e in record.rivals(first["effect"])[1:] if f"snr_{e}" in best}
    share = _share(first)
    headline = (
        f"{share[0].upper()}{share[1:]} of the variance between groups on {first['axis']} belongs to "
        f"{first['effect']}; its cross-talk is {number(first['crosstalk'])} times the variance within groups"
    )
    if others and max(others.values()) > 0:
        worst = max(others, key=lambda e: others[e])
        headline += f", most of it from {worst} ({number(others[worst])})"
    details = []
    for genes in dict.fromkeys(record.certificate["genes"]):
        table = _best(record, genes)
        if table is not None:
            shares = [f"{row.axis} {_share(row._asdict())}" for row in table.itertuples()]
            details.append(
                f"Share of the variance between groups that belongs to the axis's own effect, {genes} genes: "
                f"{listed(shares)}."
            )
    if "accuracy" in best and np.isfinite(first["accuracy"]):
        details.append(
            f"The levels of {first['effect']} are predicted from its axes on held-out cells with a balanced accuracy "
            f"of {first['accuracy']:.2f} (chance: {first['chance']:.2f})."
        )
    details.append(_scheme(first, single=record.fit.get("error") == "residual"))
    return Answer(question, headline + ".", tuple(details))


def _scheme(row: pd.Series, *, single: bool = False) -> str:
    """How the cells of the certificate were held out; ``single`` if the noise is what the effects leave."""
    n_folds = int(row["n_folds"])
    if row.get("scheme", "folds") == "folds":
        return (
            f"Measured by cross-validation with {n_folds} folds; everything is refitted in each. The numbers after ± "
            "are standard errors."
        )
    why = (
        "The noise is what the effects leave"
        if single
        else ("There are too few cells or donors for folds with two of them from every group")
    )
    return (
        f"{why}. Parts were left out one at a "
        f"time ({n_folds} fits), and the held-out scores were pooled; the SNR of an absent effect may then be slightly "
        "too high. The numbers after ± are standard errors."
    )


def _share(row: Any) -> str:
    share = row["snr"] / (row["snr"] + max(row["crosstalk"], 0)) if row["snr"] > 0 else 0.0
    return f"{100 * share:.3g} %" if share < 0.9995 else "over 99.9 %"


def _genes(record: Record, ranking: pd.DataFrame) -> Answer:
    question = "Which ten genes carry the axis?"
    by_axis = {axis: part.head(N_GENES) for axis, part in ranking.groupby("axis", sort=False)}
    order = [axis for axis in best_axes(record, "selected") if axis in by_axis]
    lines = {axis: ", ".join(by_axis[axis]["gene"].astype(str)) for axis in order}
    first = by_axis[order[0]]
    details = [f"{axis}: {lines[axis]}." for axis in order[1:]]
    n_pure = int((first["kind"] == "pure").sum())
    kinds = "All of them are pure: none has a larger and significant F ratio for another effect."
    if n_pure < len(first):
        kinds = f"{n_pure} of them {_verb(n_pure, 'is', 'are')} pure."
        if n := int((first["kind"] == "cancelling").sum()):
            kinds += (
                f" {n} {_verb(n, 'is', 'are')} cancelling: another effect has a larger and significant F ratio, which "
                "the axis uses to cancel that effect in the other genes."
            )
        if n := int((first["kind"] == "interaction-typical").sum()):
            kinds += f" The signal of {n} is spread over factors and their interaction, as in genes of one group."
    if len(doubtful := first.loc[~first["significant"], "gene"].astype(str)):
        kinds += f" Not significant on their own: {', '.join(doubtful)}."
    details.insert(0, kinds)
    whole = ranking[ranking["axis"] == order[0]].sort_values(["F", "gene"], ascending=[False, True], kind="stable")
    details.insert(1, f"The genes that differ most by {first['effect'].iloc[0]} (F): {_names(whole)}.")
    gaps = ranking.loc[ranking["selected"]].groupby("axis", sort=False)["optimality_gap"].first().dropna()
    if gap := ", ".join(f"{axis} {_percent(gaps[axis])}" for axis in order if axis in gaps):
        details.append(
            f"With another choice of as many genes the eigenvalue can be larger by at most: {gap}. 0 % means that no "
            "other choice is better on these cells; it does not say that new cells would select the same genes."
        )
    if not ranking["selected"].any():
        details.insert(
            0, "These genes lead the axis of all genes, because no genes were selected (flda.tl.rank_genes)."
        )
    return Answer(question, f"{order[0]}: {lines[order[0]]}.", tuple(details))


def _names(table: pd.DataFrame) -> str:
    return ", ".join(table["gene"].head(N_GENES).astype(str))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:.0f} %"


def _stability(record: Record, ranking: pd.DataFrame) -> Answer:
    question = "How stable are the genes?"
    if "stability" not in record:
        return Answer(
            question, "Not measured.",
            ("Run flda.tl.stability(adata): it selects genes again in halves of the cells (or donors).",),
        )  # fmt: skip
    found, run = record.stability["genes"], record.stability["params"]
    selected = ranking.loc[ranking["selected"], ["axis", "effect", "gene"]].merge(
        found[["effect", "gene", "frequency"]], on=["effect", "gene"], how="left"
    )
    selected["frequency"] = selected["frequency"].fillna(0.0)
    lines = []
    for axis in [a for a in best_axes(record, "selected") if a in set(selected["axis"])]:
        own = selected.loc[selected["axis"] == axis, "frequency"]
        lines.append(
            f"{axis}: {int((own >= STABLE).sum())} of {len(own)} selected genes are selected again in at least "
            f"{100 * STABLE:.0f} % of the halves (median {100 * own.median():.0f} %)"
        )
    if not lines:
        return Answer(question, "It was measured for none of the axes in this report.")
    how = f"Measured on {int(run['n_resamples'])} halves of the {run['unit']}s."
    if int(run["n_bootstraps"]):
        how += (
            " The intervals of loadings in the results are for the genes that one half selects, and come from the "
            "other half, so they keep their level for every gene."
        )
    return Answer(question, lines[0] + ".", (*(f"{line}." for line in lines[1:]), how))


def _estimability(record: Record) -> Answer:
    question, report, params = "What could not be estimated?", record.estimability, record.params
    headline = "Every effect that was asked for could be estimated."
    lost = report[report["left_out"] > 0]
    if len(lost):
        headline = "; ".join(f"{row.effect}: {row.reason}" for row in lost.itertuples()) + "."
    details = []
    if params["interactions"] is None and len(params["factors"]) > 1:
        details.append("Interactions were left out on request.")
    counts = record.design.groupby(params["factors"], observed=False)["n_cells"].sum()
    empty = counts.index[counts == 0]
    if len(empty):
        names = [" × ".join(map(str, group if isinstance(group, tuple) else (group,))) for group in empty]
        details.append(f"{len(empty)} of {len(counts)} groups {_verb(len(empty), 'is', 'are')} empty: {listed(names)}.")
    few = int(((counts > 0) & (counts < FEW_CELLS)).sum())
    if few:
        details.append(
            f"{few} {_verb(few, 'group has', 'groups have')} fewer than {FEW_CELLS} cells; "
            f"{_verb(few, 'its mean is', 'their means are')} noisy."
        )
    unlabelled = int(record.groups.isna().sum())
    if unlabelled > 0:
        details.append(f"{unlabelled} of {record.adata.n_obs} cells lack a label and took no part in the fit.")
    return Answer(question, headline, tuple(details))


def _verb(n: int, one: str, many: str) -> str:
    return one if n == 1 else many


def listed(names: Iterable[str]) -> str:
    """Join names as in ``a, b, c and 4 more``."""
    names = list(map(str, names))
    if len(names) > N_NAMED + 1:
        return f"{', '.join(names[:N_NAMED])} and {len(names) - N_NAMED} more"
    return ", ".join(names)
