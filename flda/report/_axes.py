"""A sentence and a traffic light for every axis, and the paragraph of methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .._adata.results import Record
from ..pl._common import number
from ..pl._results import STABLE

CLEAR = 0.9  # share of the variance between levels that a split in two must explain to be called a separation
MANY = 5  # levels that a sentence names
MOST_AT_ONE_END = 3
OWN_SHARE = 0.8  # share of the axis's own effect in signal and cross-talk that a green light needs
LEVEL = 0.05  # of adjusted p-values
RULE = (
    f"Green: on held-out cells the SNR exceeds 1 by two standard errors, at least {100 * OWN_SHARE:.0f} % of SNR plus "
    f"cross-talk is the SNR, and no further measure speaks against the axis (adjusted p above {LEVEL}, or a median "
    f"selection frequency below {100 * STABLE:.0f} %). Red: the SNR is below 1 or below the cross-talk, or not "
    f"above 0 by two standard errors, or the adjusted p is above {LEVEL} although p could have been smaller. Yellow: "
    "everything between. Grey: there is no certificate."
)


@dataclass(frozen=True)
class Verdict:
    """What an axis separates, its light (``green``, ``yellow``, ``red`` or ``grey``), and the numbers behind it."""

    axis: str
    sentence: str
    light: str
    numbers: str


def verdicts(record: Record) -> list[Verdict]:
    """Judge every axis of all genes."""
    table = record.certificate if "certificate" in record else pd.DataFrame(columns=["axis", "genes"])
    rows = table[table["genes"] == "all"].drop_duplicates("axis").set_index("axis")
    tests = record.tests["table"].set_index("effect") if "tests" in record else pd.DataFrame()
    stable = selection_frequencies(record)
    means = _group_scores(record)
    out = []
    for axis, effect in zip(record.axis_names, record.axes["effect"], strict=True):
        row = rows.loc[axis] if axis in rows.index else None
        test = tests.loc[effect] if effect in tests.index else None
        light, numbers = _judge(row, test, stable.get(axis, np.nan))
        sentence = _sentence(record, axis, effect, means)
        if light in ("red", "grey"):  # what fitted cells show need not hold for others
            sentence = f"On the fitted cells, {sentence}"
        out.append(Verdict(axis, sentence, light, numbers))
    return out


def _judge(row: pd.Series | None, test: pd.Series | None, frequency: float) -> tuple[str, str]:
    """The light of an axis, and the numbers that it follows from."""
    parts = []
    pval = np.nan if test is None else float(test["pval_adj"])
    smallest = False  # few donors have few resamples, so p cannot be small however large the effect is
    if test is not None and np.isfinite(pval):
        resamples = min(test["n_distinct"], test["n_resamples"] + 1)
        smallest = pval > LEVEL and test["pval"] <= 1 / resamples * (1 + 1e-9)
        parts.append(f"adjusted p {pval:.2g}" + (f", the smallest of {resamples:.0f} resamples" if smallest else ""))
    if np.isfinite(frequency):
        parts.append(f"median selection frequency {100 * frequency:.0f} %")
    if row is None or not np.isfinite(row["snr"]):
        return "grey", ", ".join(["no certificate", *parts])
    snr, crosstalk = float(row["snr"]), max(float(row["crosstalk"]), 0.0)
    error = float(row["se_snr"]) if np.isfinite(row.get("se_snr", np.nan)) else 0.0
    said = f"SNR {number(snr)}" + (f" ± {number(error)}" if error else "") + f", cross-talk {number(row['crosstalk'])}"
    if snr < max(1.0, crosstalk) or snr - 2 * error <= 0 or (pval > LEVEL and not smallest):
        light = "red"
    elif snr - 2 * error > 1 and snr >= OWN_SHARE * (snr + crosstalk) and not (frequency < STABLE or pval > LEVEL):
        light = "green"
    else:
        light = "yellow"
    return light, ", ".join([said, *parts])


def selection_frequencies(record: Record) -> dict[str, float]:
    """Median selection frequency of the selected genes of every axis."""
    if "stability" not in record or "sparse_axes" not in record:
        return {}
    frequency, loadings, out = record.frequency, record.sparse_loadings, {}
    for axis, effect in zip(record.sparse_axis_names, record.sparse_axes["effect"], strict=True):
        chosen = loadings[axis] != 0
        if effect in frequency and chosen.any():
            out[axis] = float(frequency.loc[chosen, effect].fillna(0.0).median())
    return out


def resamples(table: pd.DataFrame) -> str:
    """The number of resamples of the tests of effects, which is smaller where there are few different ones."""
    low, high = int(table["n_resamples"].min()), int(table["n_resamples"].max())
    return f"{high} resamples" if low == high else f"{low} to {high} resamples"


def _group_scores(record: Record) -> pd.DataFrame:
    """Mean score of every group (rows: levels of the factors) on every axis, from the cells of the fit."""
    factors, groups = record.params["factors"], record.groups
    occupied = record.design[record.design["n_cells"] > 0][factors].drop_duplicates()
    means = record.scores.groupby(groups.to_numpy(), observed=True).mean()
    means = means.reindex(groups.cat.categories)
    means.index = pd.MultiIndex.from_frame(occupied.astype(str)) if len(means) == len(occupied) else means.index
    return means


def _sentence(record: Record, axis: str, effect: str, means: pd.DataFrame) -> str:
    """What the mean scores of the groups say in words."""
    if "contrasts" in record and effect in record.contrasts:
        return f"{axis} separates {record.contrasts[effect]['sides'].replace(' vs ', ' from ')}."
    own = record.factors_of(effect)
    if not isinstance(means.index, pd.MultiIndex) or not set(own) <= set(means.index.names):
        return f"{axis} varies with {effect}."
    numeric = record.params.get("numeric") or ()
    margin = means[axis].groupby(level=own, sort=False).mean()
    if any(f in numeric for f in own):
        high, low = _at(margin.idxmax()), _at(margin.idxmin())
        return f"{axis} varies with {effect}: its mean is highest at {high} and lowest at {low}."
    if len(own) == 1:
        return _main(axis, own[0], margin)
    return _interaction(axis, own, margin)


def _main(axis: str, factor: str, margin: pd.Series) -> str:
    ordered = margin.sort_values(ascending=False)
    values, names = ordered.to_numpy(), list(map(str, ordered.index))
    total = ((values - values.mean()) ** 2).sum()

    def explained(cut: int) -> float:
        parts = values[:cut], values[cut:]
        return float(sum(len(p) * (p.mean() - values.mean()) ** 2 for p in parts) / total) if total > 0 else 0.0

    cut = max(range(1, len(values)), key=explained)
    if explained(cut) < CLEAR:
        if len(names) <= MANY:
            return f"{axis} orders the levels of {factor}: {' > '.join(names)}."
        return (
            f"{axis} orders the levels of {factor}, with {_end(names, values)} at one end and "
            f"{_end(names[::-1], -values[::-1])} at the other."
        )
    place = {str(level): i for i, level in enumerate(margin.index)}
    few, rest = sorted((sorted(part, key=place.__getitem__) for part in (names[:cut], names[cut:])), key=len)
    others = ", ".join(rest) if len(rest) <= MANY else f"the {len(rest)} other levels of {factor}"
    return f"{axis} separates {', '.join(few)} from {others}."


def _end(names: list[str], values: np.ndarray) -> str:
    """The first of some levels in falling order: those that lie at least half as far from the mean as the first."""
    far = values - values.mean() >= (values[0] - values.mean()) / 2
    return ", ".join(names[: min(int(far.sum()), MOST_AT_ONE_END)])


def _interaction(axis: str, own: list[str], margin: pd.Series) -> str:
    """Which groups lie above and below what the parts of the interaction add up to."""
    codes = [pd.factorize(margin.index.get_level_values(f))[0] for f in own]
    columns = [np.ones(len(margin))]
    for left_out in range(len(own)):  # all lower terms: cells of the table without one factor
        rest = [codes[j] for j in range(len(own)) if j != left_out]
        cell = pd.factorize(pd.MultiIndex.from_arrays(rest))[0] if len(rest) > 1 else rest[0]
        columns += list(np.eye(cell.max() + 1)[cell].T)
    D = np.column_stack(columns)
    beyond = margin.to_numpy() - D @ np.linalg.lstsq(D, margin.to_numpy(), rcond=None)[0]
    reach = np.abs(beyond).max()
    names = [_at(level) for level in margin.index]
    above = [n for n, b in zip(names, beyond, strict=True) if b >= reach / 2]
    below = [n for n, b in zip(names, beyond, strict=True) if b <= -reach / 2]
    return (
        f"{axis} separates {', '.join(above)} from {', '.join(below)}, beyond what "
        f"{' and '.join(own)} predict without their interaction."
    )


def _at(levels: Any) -> str:
    return " × ".join(map(str, levels)) if isinstance(levels, tuple) else str(levels)


def methods(record: Record) -> str:
    """A paragraph for the methods section of a paper, from the parameters in the record."""
    params, fit, versions = record.params, record.fit, record.versions
    layer = "X" if params["layer"] is None else f"the layer {params['layer']!r}"
    interactions = [e for e in record.effects_with_axes if ":" in e]
    said = [
        f"Factorized linear discriminant analysis (Qiao 2023) was run with flda {versions['flda']} on {layer} of "
        f"{int(fit['n_cells']):,} cells and {int(fit['n_genes']):,} genes, with the factors "
        f"{_and(params['factors'])}"
        + (f" and the interactions {_and(interactions)}" if interactions else " and no interactions")
        + (f"; {_and(params['nuisance'])} entered as nuisance" if params["nuisance"] else "")
        + (f"; {params['donor']} was the donor" if params["donor"] else "")
        + "."
    ]
    form = (
        "the ratio of the variance of its effect to the variance within groups plus that of all other effects"
        if params["objective"] == "ratio"
        else "the variance of its effect minus that of all other effects, relative to the variance within groups"
    )
    chosen = " (chosen by cross-validation)" if params["shrinkage"] in ("auto", "cv") else ""
    said.append(
        f"Each axis maximises {form} (penalty {_text(params['penalty'])}, {params['group_means']} group means, "
        f"shrinkage of the within-group covariance {float(fit['shrinkage']):.3g}{chosen})."
    )
    if "selection" in record:
        selection = record.selection
        said.append(
            f"Sparse axes use {_text(selection['n_genes'])} genes each (mode {selection['mode']}, search by exchange)."
        )
    if "certificate" in record:
        row = record.certificate.iloc[0]
        how = (
            f"{int(row['n_folds'])}-fold cross-validation"
            if row.get("scheme", "folds") == "folds"
            else "leaving units out one at a time"
        )
        said.append(
            "Signal-to-noise ratio and cross-talk are variances between groups over the variance within groups, on "
            f"cells that were not used to fit the axes ({how})."
        )
    if "tests" in record:
        table = record.tests["table"]
        units = _and(list(dict.fromkeys(table["unit"].astype(str))))
        said.append(
            f"Effects and genes were tested with {resamples(table)} (unit: {units}); p-values "
            "of genes were adjusted for the false discovery rate."
        )
    if "stability" in record:
        run = record.stability["params"]
        halves = f"{int(run['n_resamples'])} halves of the {run['unit']}s"
        said.append(f"The stability of the selection was measured on {halves}.")
    said.append(
        f"Random seed {params['random_state']}; " + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) + "."
    )
    return " ".join(said)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {v}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
