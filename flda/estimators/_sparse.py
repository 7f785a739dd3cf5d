"""SparseFLDA: the best axes that use exactly k genes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from .._data.arrays import by_rows, times
from .._design.effects import Effect
from .._design.per_effect import per_effect
from .._design.splits import Split, folds
from .._error.gene_f import gene_f
from .._logging import get_logger, quiet
from .._progress import progress
from .._solve.criterion import Criterion
from .._solve.flow import flow
from .._solve.optimality import optimality_gap
from .._solve.prediction import Prior
from .._solve.refit import Refit
from .._solve.rows import ScatterRows
from .._solve.search import STRONG, SparseProblem, extend, first, select
from ..metrics import patterns
from ._flda import FLDA
from ._gene_report import gene_report
from ._predictor import Predictor
from ._shrinkage import N_FOLDS
from ._solved import Axes, Prepared, Solved, axis_row, selectable

logger = get_logger(__name__)

GRID = (3, 5, 10, 20, 50)  # numbers of genes that n_genes="cv" tries
SOFT = (1.0, 10.0)  # weights of the earlier axes, relative to the last eigenvalue, from which the search also starts


class SparseFLDA(FLDA):
    """Factorized linear discriminant analysis with axes of exactly k genes.

    This estimator maximises the objective of :class:`FLDA` over axes with k non-zero loadings. The scatter, its
    shrinkage, the effects, their weights and the penalties are those of the dense fit on all genes; only the axes are
    sparse. Later axes of an effect are orthogonal to the earlier ones in the denominator of the objective.

    Parameters
    ----------
    n_genes
        Number of genes k per axis. A dict maps effect names to numbers; effects that it does not name get 20. ``"cv"``
        takes, for each effect, the smallest of 3, 5, 10, 20 and 50 whose held-out criterion is within one standard
        error of the best. Its folds hold out whole donors if ``groups`` are given to :meth:`fit`.
    mode
        ``"axis"`` searches for the best axis of k genes, in which a gene may serve to cancel another effect of its
        partners. ``"marker"`` takes the k genes that have the largest objective alone; all axes of the effect share
        them, with the best weights.
    selector
        The search for ``mode="axis"``. ``"refit"`` adds genes greedily by their exact gain and then swaps single genes
        until no swap helps, from several starts; the weights on the support are exact. ``"flow"`` runs the truncated
        Rayleigh flow (Tan et al. 2018) until its objective no longer changes, for comparison.
    candidates
        Genes that may be selected, a boolean array (p,). None allows all. Other genes still contribute to the
        shrinkage.
    gap_effort
        Effort for the optimality gap of each axis: 1 takes about a second per axis, and 0 leaves the gaps out. More
        effort gives smaller gaps. Effort is counted in operations, so the gaps do not depend on the speed of the
        machine.
    interactions, nuisance, numeric, contrasts, n_components, objective, penalty, lack_of_fit
        As in :class:`FLDA`. With ``n_components=None`` an effect has no more axes than genes per axis.
    weights, reliability, group_means
        As in :class:`FLDA`.
    shrinkage, shrinkage_target, within, prior, solver, random_state
        As in :class:`FLDA`.

    Attributes
    ----------
    selected_ : dict
        Effect name -> list with the gene indices, in ascending order, of each of its axes.
    gene_report_ : DataFrame
        One row per axis and selected gene: ``axis, effect, rank, gene, score`` (the standardised loading), ``loading``,
        ``within_sd``, ``pattern`` (see :attr:`FLDA.patterns_`), ``F_<effect>`` for every effect, ``significant``
        (whether the F of the effect of the axis is too large for chance, see :func:`flda.metrics.significant`),
        ``specificity``, ``kind`` (see :func:`flda.metrics.specificity`), ``collinear`` (a tuple of the genes that are
        multiples of this one) and ``mean_<levels>``, the mean of the gene at every level of the effect of the axis.
    n_genes_ : dict
        Effect name -> k. With ``n_genes="cv"``, ``n_genes_path_`` holds the held-out criterion, and None otherwise.
    axes_ : DataFrame
        As in :class:`FLDA`, with two more columns: ``n_genes``, and ``dense_eigenvalue``, the objective of the same
        component without the limit on genes. No axis of k genes can exceed the dense eigenvalue of the first axis.
    optimality_gap_ : Series
        For every axis, how much larger the objective of the best axis with as many genes can be at most, as a share:
        0.02 means that no choice of k genes is more than 2 % better, and 0 that the genes are proven to be the best
        ones. It refers to the data of the fit, and to the axes of the effect before this one as they are. NaN if
        ``gap_effort=0``, or if the eigenvalue is not positive.
    components_, eigenvalues_, patterns_, design_, means_, within_sd_, shrinkage_, solver_, residual_, classes_
        As in :class:`FLDA`.
    prediction_
        As in :class:`FLDA`, for a fit of all groups to the selected genes alone, which is what ``predict`` uses. The
        genes were selected on all cells, so with far more genes than cells the probabilities are too confident; those
        of :class:`FLDA` are calibrated.

    References
    ----------
    Tan KM, Wang Z, Liu H, Zhang T. Sparse generalized eigenvalue problem: optimal statistical rates via truncated
    Rayleigh flow. J. R. Stat. Soc. B 80:1057 (2018).

    Examples
    --------
    >>> from flda import SparseFLDA
    >>> from flda.datasets import t4t5_simulated
    >>> adata = t4t5_simulated(n_obs=500, n_vars=300)
    >>> model = SparseFLDA(n_genes=5, shrinkage=0.5).fit(adata.X, adata.obs[["dendrite", "axon"]])
    >>> [len(genes) for genes in model.selected_["axon"]]
    [5, 5, 5]
    >>> bool(adata.var["truth_dendrite"].iloc[model.selected_["dendrite"][0]].all())
    True
    """

    def __init__(
        self,
        *,
        n_genes: int | str | Mapping[str, int] = 20,
        mode: str = "axis",
        selector: str = "refit",
        candidates: np.ndarray | None = None,
        gap_effort: float = 0.0,
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
        self.mode = mode
        self.selector = selector
        self.candidates = candidates
        self.gap_effort = gap_effort

    def path(self, X, y, n_genes: Sequence[int], groups=None) -> pd.DataFrame:
        """Compute the best axes for several k, each started from the axes of the k before, without changing the model.

        Parameters
        ----------
        X, y, groups
            As in :meth:`fit`.
        n_genes
            The numbers of genes, in any order.

        Returns
        -------
        DataFrame with one row per k and axis, k ascending:
        ``n_genes, axis, effect, component, eigenvalue, dense_eigenvalue, genes`` (gene indices in ascending order).

        Raises
        ------
        ValueError
            As :meth:`fit`.
        """
        sizes = sorted({int(k) for k in n_genes})
        model = clone(self).set_params(n_genes=sizes[-1] if sizes else 0)
        solved = model._solve(model._prepare(X, y, groups), calibrate=False)
        scatter, rows = ScatterRows(solved.solver, solved.g), []
        warm: dict[Effect, list[np.ndarray]] = {}
        for k in progress(sizes, desc="path"):
            for effect in solved.design.effects:
                axes = model._axes_of(effect, k, solved, scatter, warm.get(effect, ()))
                warm[effect] = [a.genes for a in axes]
                rows += [{"n_genes": k, **a.row, "genes": a.genes} for a in axes]
        return pd.DataFrame(rows)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for name, allowed in {"mode": ("axis", "marker"), "selector": ("refit", "flow")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: use one of {list(allowed)}.")
        if isinstance(self.n_genes, str) and self.n_genes != "cv":
            raise ValueError(f"n_genes={self.n_genes!r}: use a number, a dict of effects, or 'cv'.")
        if not (isinstance(self.gap_effort, Real) and self.gap_effort >= 0):
            raise ValueError(f"gap_effort={self.gap_effort!r}: use a number of 0 or more.")

    def _solve(self, prepared: Prepared, like: Solved | None = None, *, calibrate: bool = True) -> Solved:
        solved = super()._solve(prepared, like, calibrate=calibrate)
        for effect, k in self._sizes(solved).items():
            self._check_size(effect, k, solved)
        if self.selector == "flow" and np.isinf(list(solved.prepared.objective.penalties.values())).any():
            raise ValueError("selector='flow' needs finite penalties; use selector='refit'.")
        return solved

    def _find_axes(self, solved: Solved) -> Axes:
        sizes = self._sizes(solved)
        self.n_genes_path_ = None
        if self.n_genes == "cv":
            sizes, self.n_genes_path_ = self._choose_sizes(solved)
        self._n_candidates = int(selectable(solved, self.candidates).sum())
        scatter = ScatterRows(solved.solver, solved.g)
        effects = progress(solved.design.effects, desc="gene selection")
        effort = self.gap_effort
        found = [
            a for effect in effects for a in self._axes_of(effect, sizes[effect], solved, scatter, gap_effort=effort)
        ]
        p = solved.prepared.within.shape[1]
        U = np.zeros((p, len(found)))
        for j, axis in enumerate(found):
            U[axis.genes, j] = axis.loadings
        table = pd.DataFrame([a.row for a in found])
        self.optimality_gap_ = pd.Series([a.gap for a in found], table["axis"], name="optimality_gap")

        self.n_genes_ = {e.name: k for e, k in sizes.items()}
        self.selected_ = {
            name: [found[j].genes for j in rows] for name, rows in table.groupby("effect", sort=False).indices.items()
        }
        return Axes(table, U, np.stack([a.loadings @ scatter(a.genes) for a in found]))

    def _describe(self, solved: Solved, axes: Axes) -> None:
        super()._describe(solved, axes)
        prepared, table, U = solved.prepared, axes.table, axes.U
        self.gene_report_ = gene_report(
            table,
            U,
            gene_f(prepared.design, prepared.donors, prepared.summary.sums, prepared.summary.squares),
            within_sd=solved.within_sd,
            patterns=patterns(solved.solver.group_means, solved.design, table["effect"], U.T, sd=solved.within_sd),
            scatter_sd=np.sqrt(solved.solver.variances),
            means=prepared.within.means,
            design=solved.design,
            names=getattr(self, "feature_names_in_", None),
            rows=ScatterRows(solved.solver, solved.g),
            shrinkage=solved.g,
        )

    def _find_predictor(self, solved: Solved) -> Predictor:
        """Fit the predictions to the selected genes alone, as :class:`FLDA` does to all genes."""
        prepared, genes = solved.prepared, np.unique(np.concatenate(list(itertools.chain(*self.selected_.values()))))
        options = {name: value for name, value in self.get_params().items() if name in FLDA().get_params()}
        model = FLDA(**{**options, "n_components": None, "solver": "auto"})
        with quiet():
            model.fit(prepared.within.unscaled(solved.solver.columns(genes)), prepared.labels, prepared.donors)
        found = model._predictor
        weights = np.zeros((prepared.within.shape[1], found.discriminants.shape[1]))
        weights[genes] = found.discriminants
        return replace(found, discriminants=weights, centre=solved.solver.centre)

    def _axes_of(
        self,
        effect: Effect,
        k: int,
        solved: Solved,
        scatter: ScatterRows,
        warm: Sequence[np.ndarray] = (),
        gap_effort: float = 0.0,
    ) -> list[_SparseAxis]:
        """Compute all axes of one effect with k genes each.

        ``warm`` holds the supports of the axes for another k, from which the search also starts. The optimality gap is
        NaN for ``gap_effort=0``.
        """
        dense, w = solved.axes(effect, min(solved.prepared.n_components[effect], k))
        refit = Refit(solved.terms[effect], solved.means, scatter)
        strong = STRONG * max(1.0, abs(dense[0]))
        allowed = selectable(solved, self.candidates)

        def problem(weight: float = abs(dense[0]) if self.selector == "flow" else strong) -> SparseProblem:
            return SparseProblem(refit.denominator, refit.H, np.diag(refit.weights(weight)), allowed)

        def axis(c: int, value: float, genes: np.ndarray, loadings: np.ndarray) -> _SparseAxis:
            row = axis_row(effect, c + 1, eigenvalue=value, n_genes=k, dense_eigenvalue=dense[c])
            gap = np.nan
            if gap_effort > 0:
                gap = optimality_gap(refit, value, k, allowed, solved.inner_products(effect), work=1e9 * gap_effort)
            refit.append(genes, loadings)
            return _SparseAxis(row, genes, loadings, gap)

        if self.mode == "marker":
            genes = np.sort(first(problem().own_ratio, k))
            values, loadings = refit.together(genes, len(dense))
            return [axis(c, value, genes, loadings[:, c]) for c, value in enumerate(values)]
        found: list[_SparseAxis] = []
        for c in range(len(dense)):
            search = problem()  # each earlier axis has added a row to H, which keeps the next ones orthogonal to it
            u = solved.Z @ w[:, c]
            if self.selector == "flow":
                genes = np.sort(np.flatnonzero(flow(search, u, k)[0]))
            else:
                scores = np.where(allowed, np.abs(u) * np.sqrt(scatter.diagonal), -1.0)
                starts = [first(scores, k), first(search.own_ratio, k), *warm[c : c + 1]]
                if found:  # the first gene that is grown from must not be orthogonal to earlier axes on its own
                    starts += [extend(problem(s * abs(found[-1].row["eigenvalue"])), [], k) for s in SOFT]
                genes = select(search, k, starts)
            values, loadings = refit.together(genes, 1)
            found.append(axis(c, float(values[0]), genes, loadings[:, 0]))
        return found

    def _choose_sizes(self, solved: Solved) -> tuple[dict[Effect, int], pd.DataFrame]:
        """Choose, for each effect, the smallest k whose held-out criterion is within one standard error of the best."""
        prepared, design = solved.prepared, solved.design
        grid = [k for k in GRID if k <= selectable(solved, self.candidates).sum()]
        X = prepared.within.unscaled(by_rows(prepared.within.X))
        # the shrinkage is that of all cells, which is fair here: a certificate repeats the whole fit within its folds
        model = clone(self).set_params(shrinkage=solved.g, n_genes=grid[-1], **design.fixed())
        values: dict[Effect, list[np.ndarray]] = {e: [] for e in design.effects}
        split: Split
        for split in progress(
            folds(design, prepared.donors, self.random_state, N_FOLDS), desc="number of genes", total=N_FOLDS
        ):
            training = split.training
            if training is None:
                continue
            inner = model._solve(model._prepare(*split.training_data(X, prepared.labels)), calibrate=False)
            scatter, centre, held_out = ScatterRows(inner.solver, solved.g), inner.solver.centre, X[split.known]
            for effect in design.effects:
                warm: list[np.ndarray] = []
                # the cells of groups that have no part in a named contrast say nothing about it
                has_part = (training.margin(effect)[split.known_groups, 0] != 1) if effect in design.named else 1.0
                criterion = Criterion(len(grid), inner.prepared.n_components[effect])
                for i, k in enumerate(grid):
                    axes = model._axes_of(effect, k, inner, scatter, warm)
                    warm = [a.genes for a in axes]
                    s = np.column_stack([_scores(held_out, a, centre) for a in axes])
                    means = np.column_stack([inner.solver.group_means[:, a.genes] @ a.loadings for a in axes])
                    # the groups of the fit may be fewer if the noise is what the effects leave
                    e = (training.coding(effect) @ (inner.design.rows(effect) @ means))[split.known_groups]
                    criterion.add(i, e, s, split.known_weights * has_part)
                values[effect].append(criterion.values())
        rows, sizes = [], {}
        for effect, of_folds in values.items():
            if not of_folds:
                raise ValueError(
                    "n_genes='cv' found no fold that keeps every effect estimable; set n_genes to a number."
                )
            mean, se = np.mean(of_folds, axis=0), np.std(of_folds, axis=0, ddof=1) / np.sqrt(len(of_folds))
            best = int(np.argmax(mean))
            sizes[effect] = grid[int(np.argmax(mean >= mean[best] - se[best]))]
            rows += [
                {"effect": effect.name, "n_genes": k, "criterion": m, "se": s}
                for k, m, s in zip(grid, mean, se, strict=True)
            ]
        return sizes, pd.DataFrame(rows)

    def _sizes(self, solved: Solved) -> dict[Effect, int]:
        """Return the number of genes of every effect; with ``n_genes="cv"`` it is the smallest of the grid."""
        n_genes = min(GRID) if isinstance(self.n_genes, str) else self.n_genes
        return per_effect("n_genes", n_genes, solved.design.effects, 20)

    def _check_size(self, effect: Effect, k: Any, solved: Solved) -> None:
        """Check that an effect can have axes of k genes."""
        available = int(selectable(solved, self.candidates).sum())
        name = effect.name
        if not isinstance(k, int | np.integer) or not 1 <= k <= available:
            raise ValueError(
                f"n_genes={k!r} for {name!r}: there are {available} feature(s) (genes) to choose from, "
                f"so use 1 to {available}."
            )
        n_components = solved.prepared.n_components[effect]
        if self.n_components is not None and self.mode == "axis" and n_components > k:
            raise ValueError(
                f"n_genes={k} for {name!r} is too few for n_components={n_components}: every axis must be orthogonal "
                "to those before it, which takes one more gene each. Use more genes or fewer components."
            )


@dataclass(frozen=True)
class _SparseAxis:
    """One sparse axis: its row of ``axes_``, its genes in ascending order, their loadings, and its optimality gap."""

    row: dict
    genes: np.ndarray
    loadings: np.ndarray
    gap: float


def _scores(X, axis: _SparseAxis, centre: np.ndarray) -> np.ndarray:
    """Compute the scores of cells on one axis, (n,)."""
    return times(X[:, axis.genes], axis.loadings[:, None])[:, 0] - centre[axis.genes] @ axis.loadings
