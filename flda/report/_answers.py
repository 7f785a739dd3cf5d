"""What a reader asks first, answered in sentences made from the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

from .. import get
from ..pl._common import number, params
from ..pl._results import STABLE

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
    """Which effect separates best, how purely, by which genes, how stably, and what could not be estimated.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda` and of any later step.
    ranking
        :func:`flda.get.rank_genes_df` of it.
    key
        The ``key_added`` of the fit.
    """
    results = get.results(adata, key)
    return [
        _separation(results),
        _purity(results),
        _genes(results, ranking),
        _stability(results, ranking),
        _estimability(adata, key),
    ]


def best_axes(results: dict, genes: str = "all") -> list[str]:
    """The axis of every effect with most held-out signal, best effect first; without a certificate the first axes."""
    best = _best(results, genes)
    if best is not None:
        return best["axis"].astype(str).tolist()
    axes = results["sparse_axes"] if genes == "selected" and "sparse_axes" in results else results["axes"]
    return axes.drop_duplicates("effect")["axis"].tolist()


def _best(results: dict, genes: str | None = None) -> pd.DataFrame | None:
    """Rows of the certificate: per effect the one with most signal, best effect first. None without numbers."""
    table = results.get("certificate")
    if table is None:
        return None
    table = table[table["genes"] == (genes or table["genes"].iloc[0])].dropna(subset="snr")
    return None if table.empty else table.sort_values("snr", ascending=False, kind="stable").drop_duplicates("effect")


def _separation(results: dict) -> Answer:
    question, best = "Which effect separates best?", _best(results)
    if best is None:
        return Answer(
            question, "Unknown: no certificate was computed.",
            ("In-sample eigenvalues grow with the number of genes even on noise. Run flda.tl.certify(adata).",),
        )  # fmt: skip
    first = best.iloc[0]
    certificate = results["certificate"]
    headline = (
        f"{first['effect']}: on cells that were not fitted, its effect on the axis {first['axis']} has "
        f"{number(first['snr'])} times the variance within groups"
    )
    few = certificate[(certificate["genes"] == "selected") & (certificate["axis"] == first["axis"])]
    if first["genes"] == "all" and len(few):
        headline += f" with all genes, {number(few['snr'].iloc[0])} with the selected genes alone"
    details = []
    if len(best) > 1:
        rest = [f"{row.effect} {number(row.snr)} ({row.axis})" for row in best.iloc[1:].itertuples()]
        details.append(f"The other effects by their best axes: {listed(rest)}.")
    if "permutation" in results:
        details.append(_permutation(results["permutation"]["table"]))
    rows = certificate[certificate["genes"] == first["genes"]]
    weak = rows[(rows["snr"] < 1) | (rows["snr"] < rows["crosstalk"])]
    if len(weak):
        details.append(
            f"Do not lean on {listed(weak['axis'])}: on held-out cells {_verb(len(weak), 'it carries', 'they carry')} "
            "less of the own effect than of noise within groups or of other effects."
        )
    return Answer(question, headline + ".", tuple(details))


def _permutation(table: pd.DataFrame) -> str:
    rows = [f"{row.effect} p = {row.pval_adj:.2g}" for row in table.itertuples()]
    first = table.iloc[0]
    return (
        f"Permutation test, adjusted over effects: {listed(rows)} ({int(first['n_perms'])} permutations; "
        f"unit: {', '.join(dict.fromkeys(table['unit'].astype(str)))})."
    )


def _purity(results: dict) -> Answer:
    question, best = "How purely, on held-out cells?", _best(results)
    if best is None:
        return Answer(question, "Unknown: no certificate was computed.")
    first = best.iloc[0]
    others = {c.removeprefix("snr_"): first[c] for c in best if c.startswith("snr_")}
    others.pop(first["effect"], None)
    headline = (
        f"{_share(first)} of the variance between groups on {first['axis']} belongs to {first['effect']}; "
        f"cross-talk is {number(first['crosstalk'])} times the variance within groups"
    )
    if others and max(others.values()) > 0:
        worst = max(others, key=lambda e: others[e])
        headline += f", most of it from {worst} ({number(others[worst])})"
    details = []
    for genes in dict.fromkeys(results["certificate"]["genes"]):
        table = _best(results, genes)
        if table is not None:
            shares = [f"{row.axis} {_share(row._asdict())}" for row in table.itertuples()]
            details.append(f"Own share of the best axis of every effect, {genes} genes: {listed(shares)}.")
    if "accuracy" in best and np.isfinite(first["accuracy"]):
        details.append(
            f"From the axes of {first['effect']} together, its levels are told on held-out cells with a balanced "
            f"accuracy of {first['accuracy']:.2f} (chance: {first['chance']:.2f})."
        )
    details.append(f"Measured by cross-validation, {int(first['n_folds'])} folds, everything refitted in each.")
    return Answer(question, headline + ".", tuple(details))


def _share(row) -> str:
    share = row["snr"] / (row["snr"] + max(row["crosstalk"], 0)) if row["snr"] > 0 else 0.0
    return f"{100 * share:.3g} %" if share < 0.9995 else "over 99.9 %"


def _genes(results: dict, ranking: pd.DataFrame) -> Answer:
    question = "Which ten genes?"
    by_axis = {axis: part.head(N_GENES) for axis, part in ranking.groupby("axis", sort=False)}
    order = [axis for axis in best_axes(results, "selected") if axis in by_axis]
    lines = {axis: ", ".join(by_axis[axis]["gene"].astype(str)) for axis in order}
    first = by_axis[order[0]]
    details = [f"{axis}: {lines[axis]}." for axis in order[1:]]
    n_pure = int((first["kind"] == "pure").sum())
    kinds = "All are pure: the own effect has at least half of their F."
    if n_pure < len(first):
        kinds = (
            f"{n_pure} are pure: the own effect has at least half of their F. The others are cancelling: they carry "
        )
        kinds += "other effects more, and help by cancelling those in their partners."
    details.insert(0, kinds)
    if not ranking["selected"].any():
        details.insert(0, "These lead the axis of all genes; no genes were selected (flda.tl.rank_genes).")
    return Answer(question, f"{order[0]}: {lines[order[0]]}.", tuple(details))


def _stability(results: dict, ranking: pd.DataFrame) -> Answer:
    question = "How stable are the genes?"
    if "stability" not in results:
        return Answer(
            question, "Not measured.",
            ("flda.tl.stability(adata) selects again in halves of the cells (or donors) and counts.",),
        )  # fmt: skip
    found, run = results["stability"]["genes"], results["stability"]["params"]
    selected = ranking.loc[ranking["selected"], ["axis", "effect", "gene"]].merge(
        found[["effect", "gene", "frequency"]], on=["effect", "gene"], how="left"
    )
    selected["frequency"] = selected["frequency"].fillna(0.0)
    lines = []
    for axis in [a for a in best_axes(results, "selected") if a in set(selected["axis"])]:
        own = selected.loc[selected["axis"] == axis, "frequency"]
        lines.append(
            f"{axis}: {int((own >= STABLE).sum())} of {len(own)} selected genes come back in at least "
            f"{100 * STABLE:.0f} % of the halves (median {100 * own.median():.0f} %)"
        )
    if not lines:
        return Answer(question, "Measured for no axis of this report.")
    how = f"{int(run['n_halves'])} halves of the {'cells' if run.get('unit', 'cell') == 'cell' else run['unit'] + 's'}."
    return Answer(question, lines[0] + ".", (*(f"{line}." for line in lines[1:]), how))


def _estimability(adata: AnnData, key: str) -> Answer:
    results, fit = get.results(adata, key), params(adata, key)
    question, report = "What could not be estimated?", results["estimability"]
    lost = report[~report["estimable"].astype(bool)]
    headline = "Every effect that was asked for could be estimated."
    if len(lost):
        headline = "; ".join(f"{row.effect}: {row.reason}" for row in lost.itertuples()) + "."
    details = []
    if fit["interactions"] is None and len(fit["factors"]) > 1:
        details.append("Interactions were left out on request.")
    counts = results["design"].groupby(fit["factors"], observed=False)["n_cells"].sum()
    empty = counts.index[counts == 0]
    if len(empty):
        names = [" × ".join(map(str, group if isinstance(group, tuple) else (group,))) for group in empty]
        details.append(f"{len(empty)} of {len(counts)} groups {_verb(len(empty), 'is', 'are')} empty: {listed(names)}.")
    few = int(((counts > 0) & (counts < FEW_CELLS)).sum())
    if few:
        details.append(
            f"{few} {_verb(few, 'group has', 'groups have')} fewer than {FEW_CELLS} cells; "
            f"{_verb(few, 'its mean is', 'their means are')} noisy and weigh as much as any other."
        )
    unlabelled = adata.n_obs - int(results["fit"]["n_cells"])
    if unlabelled:
        details.append(f"{unlabelled} of {adata.n_obs} cells lack a label and took no part in the fit.")
    return Answer(question, headline, tuple(details))


def _verb(n: int, one: str, many: str) -> str:
    return one if n == 1 else many


def listed(names: Iterable[str]) -> str:
    """``a, b, c and 4 more``."""
    names = list(map(str, names))
    if len(names) > N_NAMED + 1:
        return f"{', '.join(names[:N_NAMED])} and {len(names) - N_NAMED} more"
    return ", ".join(names)
