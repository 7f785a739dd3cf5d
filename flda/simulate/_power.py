"""How large a study must be: :func:`flda.simulate.power`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata import read
from .._design.covariates import is_covariate
from .._design.make import make_design
from .._design.samples import between_factors
from .._design.trends import parse_numeric
from .._logging import get_logger, quiet
from .._progress import each
from ..estimators import FLDA, SparseFLDA
from ..metrics import effect_snr
from ._fit import fit_counts
from ._model import CountModel

logger = get_logger(__name__)

N_TEST = 50  # test cells per group on which purity is measured, each from another donor
MEASURES = ("purity", "stability")


@dataclass(frozen=True)
class Power:
    """Result of :func:`power`.

    Attributes
    ----------
    curves
        One row per ``n_cells``, ``n_donors``, ``effect`` and ``measure``: ``median, lower, upper`` over the simulated
        studies.
    needed
        One row per ``n_donors``, ``effect`` and ``measure``: ``target`` and ``n_cells``. ``n_cells`` is the smallest
        number of cells per group at which, and at every larger number that was tried, the share ``assurance`` of the
        studies reaches the target. It is NaN if there is none.
    studies
        One row per simulated study, effect and measure: ``truth, n_cells, n_donors, effect, measure, value``.
    """

    curves: pd.DataFrame
    needed: pd.DataFrame
    studies: pd.DataFrame


def power(
    adata: AnnData,
    factors: str | Sequence[str],
    *,
    n_cells: Sequence[int] = (10, 20, 50, 100),
    n_donors: Sequence[int] | None = None,
    purity: float = 0.9,
    stability: float = 0.7,
    n_genes: int = 20,
    interactions: str | Sequence[str] | None = "all",
    nuisance: str | Sequence[str] | None = None,
    numeric: str | Sequence[str] | Mapping[str, int | str] | None = None,
    contrasts: Mapping[str, Any] | None = None,
    donor: str | None = None,
    layer: str | None = "counts",
    shrinkage: float | str = "auto",
    n_studies: int = 20,
    confidence: float = 0.9,
    assurance: float = 0.8,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> Power:
    """Predict from pilot data how pure axes and how stable gene lists will be in studies of several sizes.

    A model of the counts (:func:`flda.simulate.fit_counts`) is fitted to the pilot. For every simulated truth, the
    group means are drawn from their posterior, so the intervals include the uncertainty that remains after the pilot.
    Cells are drawn from this truth, and :class:`flda.FLDA` and :class:`flda.SparseFLDA` are fitted to them. Every truth
    gives two studies of each size.

    * *purity* of an effect: the share of the effect in the variance between group means on its first axis, in [0, 1],
      measured on 50 new cells per group of the same truth.
    * *stability* of an effect: the share of the genes selected in one study that are selected in the other too.

    Both depend on all genes of ``adata``, so restrict it beforehand to the genes that the study will use. The work is
    about ``2 * n_studies`` fits with :func:`flda.tl.rank_genes` for every size.

    Parameters
    ----------
    adata
        The pilot: cells x genes with raw counts.
    factors, interactions, nuisance, donor, layer
        As in :func:`flda.simulate.fit_counts`.
    numeric, contrasts
        As in :func:`flda.tl.flda`, for the fits of the studies. The simulated truth is that of plain factors, so that a
        dose need not act along a line. A covariate, in both ``nuisance`` and ``numeric``, is drawn with the cells and
        has no effect on expression: the studies pay for its slopes, and for what it shares with the factors.
    n_cells
        Numbers of cells per group to try, over all donors of the group.
    n_donors
        Numbers of donors per group to try; this needs ``donor``. The default is the number in the pilot. Simulated
        donors are new donors. A factor that varies between donors in the pilot also varies between donors in the
        studies.
    purity, stability
        Targets, between 0 and 1.
    n_genes, shrinkage
        Options of the fits, as in :class:`flda.SparseFLDA`.
    n_studies
        Number of simulated truths. Each gives two studies of every size.
    confidence
        Coverage of the intervals: the probability that the value of a new study of this size lies within the interval.
        With n values it cannot exceed (n - 1) / (n + 1).
    assurance
        Share of the studies that must reach a target for a size to be sufficient.
    random_state
        Seed; the same seed gives the same studies.
    n_jobs
        Number of threads, as in joblib. The result does not depend on it.

    Returns
    -------
    The tables ``curves``, ``needed`` and ``studies``.

    Raises
    ------
    ValueError
        If columns or counts cannot be used, if ``n_donors`` is given without ``donor``, if there are fewer cells than
        donors or fewer genes than ``n_genes``, or if a target is outside (0, 1).

    Examples
    --------
    >>> import flda
    >>> pilot = flda.datasets.t4t5_simulated(160, 60)
    >>> found = flda.simulate.power(pilot, ["dendrite", "axon"], n_cells=[5, 20], n_studies=2, n_genes=5, shrinkage=0.5)
    >>> found.needed[["effect", "measure", "target"]].head(2).to_records(index=False).tolist()
    [('dendrite', 'purity', 0.9), ('dendrite', 'stability', 0.7)]
    """
    start = time.perf_counter()
    sizes = _sizes(n_cells, n_donors, donor)
    if n_studies < 2:
        raise ValueError(f"n_studies={n_studies} is too small; use 2 or more.")
    for name, value in {
        "confidence": confidence,
        "assurance": assurance,
        "purity": purity,
        "stability": stability,
    }.items():
        if not 0 < value < 1:
            raise ValueError(f"{name}={value} is out of range; use a number between 0 and 1.")
    factors = [factors] if isinstance(factors, str) else list(factors)
    nuisance = [nuisance] if isinstance(nuisance, str) else list(nuisance or ())
    table = read.labels(adata, [*factors, *nuisance, *([] if donor is None else [donor])])
    labelled = table.notna().all(axis=1).to_numpy()
    kinds = parse_numeric(numeric, table.columns)
    covariates = [name for name in nuisance if name in kinds and is_covariate(table.loc[labelled, name])]
    model = fit_counts(
        adata[labelled] if covariates and not labelled.all() else adata,
        factors,
        interactions=interactions,
        nuisance=[name for name in nuisance if name not in covariates],
        donor=donor,
        layer=layer,
        random_state=random_state,
    )
    if covariates:
        drawn_along = table.loc[labelled, covariates].reset_index(drop=True)
        model = replace(model, labels=pd.concat([model.labels, drawn_along], axis=1))
    if donor is not None and n_donors is None:
        per_group = model.labels.groupby(list(model.design.factors), observed=True)[donor].nunique()
        sizes = [(n, max(1, min(n, int(per_group.median())))) for n, _ in sizes]
    if n_genes > len(model.genes):
        raise ValueError(f"n_genes={n_genes} is more than the {len(model.genes)} genes of adata.")
    options: dict[str, Any] = {
        "interactions": [e.name for e in model.design.effects if len(e) > 1] or None,
        "nuisance": [*model.design.nuisance, *covariates], "numeric": kinds or None, "contrasts": contrasts,
        "random_state": random_state,
    }  # fmt: skip

    def studied(truth: int) -> list[dict]:
        """Return the rows of all studies of one simulated truth."""
        seeds = np.random.SeedSequence([random_state, truth]).generate_state(3 + 2 * len(sizes))
        drawn, rows = model.draw(np.random.default_rng(seeds[0])), []
        test = _cells(drawn, N_TEST, N_TEST if donor is not None else 1, seeds[1], "test")
        for k, (n, d) in enumerate(sizes):
            of_study: dict[str, Any] = {"donor": donor if d > 1 else None, "n_genes": n_genes, "shrinkage": shrinkage}
            pair = [
                _study(_cells(drawn, n, d, seed, "study"), test, [*model.factors, *covariates], options, **of_study)
                for seed in seeds[3 + 2 * k : 5 + 2 * k]
            ]
            rows += _rows(pair, truth, n, d if donor is not None else 0)
        return rows

    of_truths = each(studied, range(n_studies), desc="studies", n_jobs=n_jobs, total=n_studies)
    rows = [row for of_truth in of_truths for row in of_truth]
    studies = pd.DataFrame(rows)
    keys = ["n_cells", "n_donors", "effect", "measure"]
    values = studies.groupby(keys, sort=False)["value"]
    # Weibull quantiles: intervals between order statistics have exact predictive coverage
    tail = (1 - confidence) / 2
    ends = {"lower": tail, "upper": 1 - tail}
    limits = {name: values.agg(np.quantile, q=q, method="weibull") for name, q in ends.items()}
    curves = pd.DataFrame({"median": values.median(), **limits}).reset_index()
    needed = _needed(studies, {"purity": purity, "stability": stability}, assurance)
    logger.info("power: %d studies of %d sizes (%.1f s)", 2 * n_studies, len(sizes), time.perf_counter() - start)
    return Power(curves, needed, studies)


def _sizes(n_cells: Sequence[int], n_donors: Sequence[int] | None, donor: str | None) -> list[tuple[int, int]]:
    cells = sorted({int(n) for n in np.atleast_1d(n_cells)})
    if not cells or cells[0] < 2:
        raise ValueError(f"n_cells={list(cells)} is out of range; use numbers of 2 or more cells per group.")
    if n_donors is None:
        return [(n, 1) for n in cells]
    if donor is None:
        raise ValueError("n_donors needs donor, the column of obs with the donors of the pilot.")
    donors = sorted({int(d) for d in np.atleast_1d(n_donors)})
    if not donors or donors[0] < 1 or donors[-1] > cells[0]:
        raise ValueError(
            f"n_donors={donors} is out of range; use 1 or more, and at most the smallest n_cells ({cells[0]})."
        )
    return [(n, d) for d in donors for n in cells]


def _cells(model: CountModel, n: int, n_donors: int, seed: int, name: str) -> AnnData:
    """Draw n cells in every group and distribute them over new donors.

    A donor has one level of the factors that vary between donors in the pilot, and cells in all groups of that level.
    """
    rng = np.random.default_rng(seed)
    labels = model.labels_of(n, rng)
    if model.donor is not None:
        donors = np.unique(model.labels[model.donor].astype(str), return_inverse=True)[1]
        between = list(between_factors(model.design, donors))
        level = labels[between].astype(str).agg("-".join, axis=1) if between else pd.Series("", index=labels.index)
        rank = labels.groupby(list(model.design.factors), observed=True).cumcount() % n_donors
        labels[model.donor] = [f"{name}-{own}-{k}" for own, k in zip(level, rank, strict=True)]
    return model.sample(labels, random_state=int(seed))


def _study(
    cells: AnnData,
    test: AnnData,
    factors: Sequence[str],
    options: Mapping[str, Any],
    *,
    donor: str | None,
    n_genes: int,
    shrinkage: float | str,
) -> tuple[dict[str, float], dict[str, set[int]]]:
    """Fit a study; returns the purity of the first axis of every effect on the test cells, and its selected genes."""
    y = cells.obs[list(factors)].reset_index(drop=True)
    groups = None if donor is None else cells.obs[donor].to_numpy()
    with quiet():
        dense = FLDA(shrinkage=shrinkage, **options).fit(cells.X, y, groups)
        sparse = SparseFLDA(n_genes=n_genes, shrinkage=dense.shrinkage_, **options).fit(cells.X, y, groups)
        design = make_design(
            test.obs[list(factors)], interactions=options["interactions"], nuisance=options["nuisance"],
            numeric=options["numeric"], contrasts=options["contrasts"],
        )  # fmt: skip
    first = dense.axes_["component"].to_numpy() == 1
    snr = pd.DataFrame(effect_snr(dense.transform(test.X)[:, first], design)).clip(lower=0)
    effects = dense.axes_.loc[first, "effect"].to_list()
    rivals = {e.name: [e.name, *(o.name for o in design.others(e))] for e in design.effects}
    total = [snr[rivals[e]].iloc[i].sum() for i, e in enumerate(effects)]
    purity = {e: snr[e].iloc[i] / total[i] if total[i] > 0 else 0.0 for i, e in enumerate(effects)}
    return purity, {e: set(np.concatenate(axes).tolist()) for e, axes in sparse.selected_.items()}


def _rows(pair: list, truth: int, n: int, d: int) -> list[dict]:
    """Rows of ``Power.studies`` from two studies of a truth: two purities and one stability of every effect."""
    (purity, genes), (_, others) = pair
    out = []
    for effect in purity:
        size = {"truth": truth, "n_cells": n, "n_donors": d, "effect": effect}
        out += [{**size, "measure": "purity", "value": p[effect]} for p, _ in pair]
        shared = len(genes[effect] & others[effect]) / np.mean([len(genes[effect]), len(others[effect])])
        out.append({**size, "measure": "stability", "value": shared})
    return out


def _needed(studies: pd.DataFrame, targets: Mapping[str, float], assurance: float) -> pd.DataFrame:
    """Table ``Power.needed``; a size suffices if it and all larger ones reach the target."""
    rows = []
    for (d, effect, measure), part in studies.groupby(["n_donors", "effect", "measure"], sort=False):
        reached = part["value"] >= targets[str(measure)]
        enough = reached.groupby(part["n_cells"]).mean() >= assurance
        lasting = enough[::-1].cummin()[::-1].astype(bool)
        fewest = lasting.index[lasting].min() if lasting.any() else np.nan
        rows.append({"n_donors": d, "effect": effect, "measure": measure, "target": targets[str(measure)],
                     "n_cells": fewest})  # fmt: skip
    return pd.DataFrame(rows)
