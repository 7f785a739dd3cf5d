"""PanelFLDA: the axes of all effects on one panel of genes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from .._design.effects import Effect
from .._logging import quiet
from .._solve.panel import Demands, Pair, PanelProblem, losses, select_panel
from .._solve.prediction import Prior
from .._solve.rows import ScatterRows
from ..metrics import patterns
from ._flda import FLDA
from ._predictor import Predictor
from ._solved import Axes, Prepared, Solved, selectable

STRONG = 1e3  # weight of an infinite penalty in the choice of genes, where effects weigh about 1


class PanelFLDA(FLDA):
    """Factorized linear discriminant analysis on a panel: k genes for the axes of all effects together.

    The genes are those that maximise ``J = sum_S weight_S sum_c log(1 + rho_c)``, where ``rho_1, rho_2, ...`` are the
    ratios of the axes that an effect S has on the panel. Half of ``log(1 + rho)`` is the information of an axis about
    its effect in nats, so a gene counts by what it adds for all effects, and axes with little gain the most. The gain
    of every gene is exact. The axes are then those of :class:`FLDA` on the genes of the panel alone.

    Parameters
    ----------
    n_genes
        Number of genes of the panel. With ``budget``, the largest number; None then sets no limit.
    effects
        Effects that the panel is for: names, or a dict of names and weights. None is all effects that have axes, with
        equal weights. All effects get axes on the panel; those that are not named count against the others only.
    include
        Indices of genes that the panel holds in any case.
    candidates
        Genes that may be selected, a boolean array (p,). None allows all. It does not matter for ``include``.
    min_per_axis
        Least number of genes for every axis of ``effects``. A gene belongs to the axis of all genes with which it has
        the largest absolute pattern (:attr:`FLDA.patterns_`).
    cost
        Cost of every gene, (p,), each above 0. It needs ``budget``, the largest sum of the costs of a panel.
    budget
        See ``cost``.
    interactions, nuisance, numeric, contrasts, n_components, objective, penalty, lack_of_fit
        As in :class:`FLDA`. The choice of genes always uses the ratio, and all directions of an effect, whatever
        ``n_components``.
    weights, reliability, group_means
        As in :class:`FLDA`.
    shrinkage, shrinkage_target, within, prior, solver, random_state
        As in :class:`FLDA`.

    Attributes
    ----------
    panel_ : ndarray of shape (k,)
        Indices of the genes of the panel, those that are missed most first.
    panel_table_ : DataFrame
        One row per gene in the order of ``panel_``: ``gene`` (its index), ``axis`` (that of all genes to which it
        belongs), ``included`` (whether it was asked for), ``loss`` (by which share J falls without this gene) and
        ``cost``.
    information_ : DataFrame
        One row per effect: ``effect``, ``information`` (the sum of ``log(1 + rho)`` over its axes on the panel, at the
        shrinkage of the choice of genes), ``all_genes`` (the same for all genes) and ``share`` (their ratio).
    axes_, components_, eigenvalues_, patterns_, shrinkage_, design_, means_, within_sd_, solver_, residual_, classes_
        As in :class:`FLDA`. ``shrinkage_`` is that of the choice of genes; ``panel_shrinkage_`` is that of the
        axes, which is another one if ``shrinkage`` is not a number.
    prediction_
        As in :class:`FLDA`, for the panel alone. The genes were chosen on all cells, so with far more genes than cells
        the probabilities are too confident.

    Examples
    --------
    >>> from flda import PanelFLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=500, n_vars=300)
    >>> model = PanelFLDA(n_genes=12, shrinkage=0.5).fit(adata.X, adata.obs[["dendrite", "axon"]])
    >>> len(model.panel_), bool((model.information_["share"] < 1).all())
    (12, True)
    """

    def __init__(
        self,
        *,
        n_genes: int | None = 50,
        effects: str | Sequence[str] | Mapping[str, float] | None = None,
        include: Sequence[int] = (),
        candidates: np.ndarray | None = None,
        min_per_axis: int = 0,
        cost: np.ndarray | None = None,
        budget: float | None = None,
        interactions: str | Iterable[str | Sequence[str]] | None = "all",
        nuisance: Sequence[str] = (),
        numeric: str | Sequence[str] | Mapping[str, int | str] | None = None,
        contrasts: Mapping[str, Any] | None = None,
        n_components: int | Mapping[str, int] | None = None,
        objective: str = "ratio",
        penalty: float | Mapping[str, float] = 1.0,
        lack_of_fit: float = 0.3,
        weights: str = "random",
        reliability: bool = True,
        group_means: str = "observed",
        error: str = "auto",
        shrinkage: float | str = "auto",
        shrinkage_target: str = "diagonal",
        within: str = "pooled",
        prior: Prior = "equal",
        solver: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
    ):
        super().__init__(
            interactions=interactions, nuisance=nuisance, numeric=numeric, contrasts=contrasts,
            n_components=n_components, objective=objective, penalty=penalty, lack_of_fit=lack_of_fit, weights=weights,
            reliability=reliability, group_means=group_means, error=error, shrinkage=shrinkage,
            shrinkage_target=shrinkage_target, within=within, prior=prior, solver=solver, random_state=random_state,
        )  # fmt: skip
        self.n_genes = n_genes
        self.effects = effects
        self.include = include
        self.candidates = candidates
        self.min_per_axis = min_per_axis
        self.cost = cost
        self.budget = budget

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.n_genes is None and self.budget is None:
            raise ValueError("n_genes=None: give the number of genes, or a budget for their costs.")
        for name, least in (("n_genes", 1), ("min_per_axis", 0)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Integral) and int(value) >= least):
                raise ValueError(f"{name}={value!r}: use a whole number of {least} or more.")
        if (self.cost is None) != (self.budget is None):
            raise ValueError("cost and budget belong together: give both, or neither.")
        if self.budget is not None and not (isinstance(self.budget, Real) and self.budget > 0):
            raise ValueError(f"budget={self.budget!r}: use a number above 0.")

    def _solve(self, prepared: Prepared, like: Solved | None = None, *, calibrate: bool = True) -> Solved:
        self._weights = _effect_weights(self.effects, prepared.design.effects)
        solved = super()._solve(prepared, like, calibrate=calibrate)
        self._problem, self._homes = self._pose(solved)
        return solved

    def _pose(self, solved: Solved) -> tuple[PanelProblem, np.ndarray]:
        """Return the problem of the panel, and the name of the axis to which every gene belongs."""
        p = solved.prepared.within.shape[1]
        included = _indices(self.include, p)
        allowed = selectable(solved, self.candidates)
        allowed[included] = False
        available = int(allowed.sum()) + len(included)
        n_genes = available if self.n_genes is None else int(self.n_genes)
        if len(included) > n_genes:
            raise ValueError(
                f"include names {len(included)} genes, and the panel has n_genes={n_genes}; use more genes."
            )
        if n_genes > available:
            raise ValueError(f"n_genes={n_genes}: there are {available} genes to choose from, so use 1 to {available}.")
        if self.cost is None:
            cost, budget = np.ones(p), np.inf
        else:
            cost, budget = np.asarray(self.cost, dtype=float), float(self.budget)  # type: ignore[arg-type]
            if cost.shape != (p,) or not (np.isfinite(cost) & (cost > 0)).all():
                raise ValueError(f"cost must hold a number above 0 for each of the {p} genes.")
        axes, home = self._home(solved)
        least = np.full(len(axes), self.min_per_axis)
        demands = Demands(n_genes, included, home, least, cost, budget)
        self._check_demands(demands, allowed, axes)

        terms = replace(solved.prepared.objective, kind="ratio").terms(solved.design, solved.K, solved.noise)
        pairs = []
        for effect, weight in self._weights.items():
            rows = terms[effect]
            against = np.vstack([rows.against, *(np.sqrt(STRONG) * nulled for nulled in rows.nulled)])
            pairs.append(Pair(against, np.vstack([against, rows.own]), weight))
        problem = PanelProblem(ScatterRows(solved.solver, solved.g), solved.means, pairs, allowed, demands)
        return problem, np.asarray(axes, dtype=object)[home]

    def _home(self, solved: Solved) -> tuple[list[str], np.ndarray]:
        """Return the names of the axes of all genes, and the index of the axis to which every gene belongs."""
        names, effects, U = [], [], []
        for effect in self._weights:
            _, w = solved.axes(effect, solved.prepared.n_components[effect])
            names += [f"{effect.name}_{c + 1}" for c in range(w.shape[1])]
            effects += [effect.name] * w.shape[1]
            U.append((solved.Z @ w).T)
        found = patterns(solved.solver.group_means, solved.design, effects, np.vstack(U), sd=solved.within_sd)
        return names, np.abs(found).argmax(axis=0)

    def _check_demands(self, demands: Demands, allowed: np.ndarray, axes: Sequence[str]) -> None:
        """Refuse demands that no panel meets."""
        included = demands.included
        of_axes = np.bincount(demands.home[included], minlength=len(axes))
        needed = int(np.maximum(demands.least, of_axes).sum())
        if needed > demands.n_genes:
            raise ValueError(
                f"min_per_axis={self.min_per_axis} for {len(axes)} axes, with the {len(included)} genes of include, "
                f"needs {needed} genes, and n_genes={demands.n_genes}; use more genes or a smaller min_per_axis."
            )
        lacks, has = demands.missing(included), np.bincount(demands.home[allowed], minlength=len(axes))
        if (lacks > has).any():
            h = int(np.argmax(lacks > has))
            raise ValueError(
                f"min_per_axis={self.min_per_axis}: only {of_axes[h] + has[h]} genes that may be selected belong to "
                f"the axis {axes[h]}; use a smaller min_per_axis, or leave its effect out of effects."
            )
        least = demands.cost[included].sum() + demands.reserve(included, allowed)[0]
        if len(included) == 0 and not lacks.any():
            least = np.min(demands.cost[allowed], initial=np.inf)
        if least > demands.budget:
            raise ValueError(
                f"budget={demands.budget:g}: the least cost of a panel with these demands is {least:g}; use more."
            )

    def _choose_genes(self, solved: Solved) -> np.ndarray:
        """Return the genes of the panel in ascending order."""
        return select_panel(self._problem)

    def _find_axes(self, solved: Solved) -> Axes:
        genes, problem, prepared = self._choose_genes(solved), self._problem, solved.prepared
        lost = _share(losses(problem, genes), np.full(len(genes), problem.value(genes)))
        order = np.argsort(-lost, kind="stable")
        self.panel_ = genes[order]
        self.panel_table_ = pd.DataFrame(
            {
                "gene": self.panel_,
                "axis": self._homes[self.panel_],
                "included": np.isin(self.panel_, problem.demands.included),
                "loss": lost[order],
                "cost": problem.demands.cost[self.panel_],
            }
        )
        here, dense = problem.information(problem.products(genes)), problem.information(solved.K)
        self.information_ = pd.DataFrame(
            {
                "effect": [e.name for e in self._weights],
                "information": here,
                "all_genes": dense,
                "share": _share(here, dense),
            }
        )
        own = {name: value for name, value in self.get_params().items() if name in FLDA().get_params()}
        model = FLDA(**{**own, "solver": "auto"})
        with quiet():
            model.fit(solved.solver.columns(genes), prepared.labels, prepared.donors)
        self._on_panel, self.panel_shrinkage_ = model, model.shrinkage_
        U = np.zeros((prepared.within.shape[1], len(model.axes_)))
        U[genes] = model.components_.T
        rows = ScatterRows(solved.solver, model.shrinkage_)
        return Axes(model.axes_, U, model.components_ @ rows(genes))

    def _find_predictor(self, solved: Solved) -> Predictor:
        """Return the predictions of the fit to the panel alone."""
        found = self._on_panel._predictor
        weights = np.zeros((solved.prepared.within.shape[1], found.discriminants.shape[1]))
        weights[np.sort(self.panel_)] = found.discriminants
        return replace(found, discriminants=weights, centre=solved.solver.centre)


def _effect_weights(
    wanted: str | Sequence[str] | Mapping[str, float] | None, effects: Sequence[Effect]
) -> dict[Effect, float]:
    """Return the weight of every effect of the panel."""
    names = {e.name: e for e in effects}
    if wanted is None:
        return dict.fromkeys(effects, 1.0)
    given = (
        dict(wanted)
        if isinstance(wanted, Mapping)
        else dict.fromkeys([wanted] if isinstance(wanted, str) else wanted, 1.0)
    )
    unknown = [name for name in given if name not in names]
    if unknown or not given:
        raise ValueError(f"effects={wanted!r}: name effects that have axes; these are {list(names)}.")
    for name, weight in given.items():
        if not (isinstance(weight, Real) and 0 < weight < np.inf):
            raise ValueError(f"effects: the weight of {name!r} is {weight!r}; use a number above 0.")
    return {names[name]: float(weight) for name, weight in given.items()}


def _indices(include: Sequence[int], p: int) -> np.ndarray:
    """Check the indices of genes, and sort them."""
    found = np.asarray(include, dtype=np.int64) if len(include) else np.array([], dtype=np.int64)
    if len(found) and (found.min() < 0 or found.max() >= p):
        raise ValueError(f"include names the gene {int(found.max())}, but there are {p} genes, counted from 0.")
    if len(np.unique(found)) < len(found):
        raise ValueError("include names a gene twice.")
    return np.sort(found)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the share of each part in its whole, or NaN of a whole that is zero: an effect without any difference."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
