"""FLDA: the scikit-learn estimator. Arrays in, arrays out; AnnData lives one floor up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from .._data import arrays
from .._data.summary import NonFiniteError, first_nonfinite, summarise
from .._design.design import effect_components, effect_penalties, make_design
from .._design.effects import Effect
from .._design.samples import sample_units, samples_in_error
from .._logging import get_logger
from .._solve.choose import choose_solver, solve
from .._solve.within import Within
from ..metrics import largest_signs
from ._input import checked_matrix
from ._labels import donor_codes, label_frame
from ._shrinkage import cross_validate, ledoit_wolf, oas
from ._solved import Axes, Prepared, Solved, axis_row

logger = get_logger(__name__)


class FLDA(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Factorized linear discriminant analysis: axes that vary with one effect and little with the others.

    For every effect S of a factorial design (a factor or an interaction) this estimator finds the directions u that
    maximise ``u' (M_S - sum_T lambda_T M_T) u / u' M_e u``. M_S is the scatter of the effect's least-squares estimates
    on the group means, and M_e the shrunken within-group scatter. The solution is exact, and one solve with M_e serves
    all effects and penalties.

    Parameters
    ----------
    interactions
        ``"all"`` for every interaction that the groups identify (a logged line names those left out), None for main
        effects only, or a list of ``"a:b"`` or ``("a", "b")``.
    nuisance
        Columns of y that enter the fit as additive effects without axes of their own, such as a batch. They
        are penalised like any other effect.
    n_components
        Axes per effect: None for all useful ones (the effect's degrees of freedom), one number, or a dict
        from effect name to number.
    penalty
        lambda_T: the weight with which the variance of another effect T counts against an axis. One number, or a dict
        from the name of the other effect to its number (1 for effects that are not named). With ``inf`` the group means
        do not vary with that effect on the axis at all.
    group_means
        ``"observed"`` uses the group means as they are. ``"shrunken"`` uses their posterior means under the factorial
        prior: the mean of a group of few cells moves towards what the main effects predict for it. The prior is fitted
        anew in every fold. Try this first when some groups are rare. With 3 to 10 cells in a group it raised held-out
        signal on simulated cells and on the RNA mixtures; on blood cells the axes were purer and had less signal
        (``benchmarks/RESULTS.md``).
    shrinkage
        g in ``M_e(g) = (1 - g) M_e + g T``: a number in [0, 1], ``"ledoit-wolf"``, ``"oas"``, or ``"cv"`` for the value
        of a grid that is best on held-out cells. ``"auto"`` is ``"cv"``: on five data sets it came within 0.03 of the
        best fixed g in mean held-out log(1 + SNR), while Ledoit-Wolf lost up to 0.23 (``benchmarks/RESULTS.md``).
    shrinkage_target
        The target T. ``"diagonal"``, the default, holds each gene's own variance, so that axes do not depend on the
        genes' units. ``"identity"`` is the mean variance of the genes times the identity, for genes on comparable
        scales. Diagonal was clearly better on both real data sets; identity was better on one simulation.
    within
        ``"pooled"`` divides the within-group sum of squares by N - C. ``"balanced"`` weighs the groups so that each of
        them counts the same, as the paper's estimator does. Pooled was never worse in the same experiment, and better
        where groups are small.
    solver
        ``"primal"`` factors M_e (p x p), ``"dual"`` the Gram matrix of the cells (N x N), ``"iterative"`` forms neither
        and works by products with the data. ``"auto"`` takes the smaller side, or ``"iterative"`` where that side has
        more than 10,000 rows or would take more than half of the free memory.
    random_state
        Seed of the cross-validation folds.

    Attributes
    ----------
    effects_ : list of tuple of str
        The effects that have axes.
    axes_ : DataFrame
        One row per axis: ``axis, effect, component, eigenvalue``. The eigenvalue is in-sample; judge axes by
        :func:`flda.inference.certify`.
    components_ : ndarray of shape (k, p)
        Axes u, M_e-orthonormal within an effect; the gene with the largest standardised loading has a positive one.
    eigenvalues_ : ndarray of shape (k,)
        The maximised ratio of each axis.
    design_ : Design
        Groups, counts, contrasts and the report of what can be estimated.
    means_ : ndarray of shape (C, p)
        Group means that the axes are made of, rows as in ``design_.group_levels()``.
    within_sd_ : ndarray of shape (p,)
        Within-group standard deviation of each gene, unshrunken: the square root of the diagonal of M_e.
    donor_share_ : float or None
        Share of donors in the within-group variance of all genes, when donors are in the error term. The spread that
        the noise of cells gives to the means of donors is subtracted, so the share can be negative.
    shrinkage_ : float
        The g that was used. ``shrinkage_path_`` has the criterion over the grid for ``"cv"``, else None.
    solver_ : str
        ``"primal"``, ``"dual"`` or ``"iterative"``.
    residual_ : float
        Relative residual of the linear solve behind all axes.
    classes_ : ndarray or list of ndarray
        Levels of each factor; one array when y had one column.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Qiao M, Meister M. Factorized discriminant analysis for genetic signatures of neuronal phenotypes.
    Front. Neuroinform. 17:1265079 (2023), arXiv 2010.02171.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from flda import FLDA
    >>> rng = np.random.default_rng(0)
    >>> y = pd.DataFrame({"dendrite": rng.choice(["T4", "T5"], 400), "axon": rng.choice(list("abcd"), 400)})
    >>> X = rng.normal(size=(400, 30))
    >>> X[:, 0] += 3 * (y["dendrite"] == "T5")
    >>> model = FLDA(shrinkage=0.1).fit(X, y)
    >>> model.get_feature_names_out()[:3]
    array(['dendrite_1', 'axon_1', 'axon_2'], dtype=object)
    >>> int(np.abs(model.components_[0]).argmax())
    0
    """

    def __init__(
        self,
        *,
        interactions: str | Iterable[str | Sequence[str]] | None = "all",
        nuisance: Sequence[str] = (),
        n_components: int | Mapping[str, int] | None = None,
        penalty: float | Mapping[str, float] = 1.0,
        group_means: str = "observed",
        shrinkage: float | str = "auto",
        shrinkage_target: str = "diagonal",
        within: str = "pooled",
        solver: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.interactions = interactions
        self.nuisance = nuisance
        self.n_components = n_components
        self.penalty = penalty
        self.group_means = group_means
        self.shrinkage = shrinkage
        self.shrinkage_target = shrinkage_target
        self.within = within
        self.solver = solver
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y, groups=None) -> Self:
        """Find the axes.

        Parameters
        ----------
        X
            Expression, cells x genes, normally log-normalised: ndarray, any scipy.sparse matrix or array, a dask array
            with dense or CSR chunks, which is read in blocks of rows several times, or a dense array or CSR matrix of
            cupy, which stays on the GPU. Results are NumPy's.
        y
            Labels: a DataFrame with a column per factor, an (N, F) array, or (N,) for one factor.
        groups
            Donor of each cell, (N,). Cross-validated shrinkage then holds out whole donors. If a factor varies between
            donors, group means are means of the donors' means, and M_e is n times the variance of a donor's mean: the
            variance of its cells plus n times the spread between donors. Here n is the harmonic mean number of cells.

        Returns
        -------
        The fitted estimator.

        Raises
        ------
        ValueError
            For bad values in X or y, effects that cannot be estimated, or a singular scatter without shrinkage.
        """
        return self._fit(self._prepare(X, y, groups))

    def _fit(self, prepared: Prepared) -> Self:
        solved = self._solve(prepared)
        axes = self._find_axes(solved)
        within, design, solver = prepared.within, prepared.design, solved.solver
        self.design_ = design
        self.effects_: list[Effect] = design.effects
        self.axes_ = axes.table
        self.eigenvalues_ = axes.table["eigenvalue"].to_numpy()
        self.within_sd_ = np.sqrt(solver.variances)
        signs = largest_signs(axes.U * self.within_sd_[:, None])
        self.components_ = np.ascontiguousarray((axes.U * signs).T)
        self.means_ = solver.group_means
        self.donor_share_ = within.donor_share(solver.variances)
        self.shrinkage_, self.solver_, self.residual_ = solved.g, solver.name, solved.residual
        levels = [design.levels[f] for f in prepared.labels.columns]
        self.classes_ = levels[0] if len(levels) == 1 else levels
        # transform, inverse_transform and predict need these only
        self._centre = solver.centre
        self._patterns = axes.patterns * signs[:, None]
        self._discriminants = axes.discriminants
        self._offsets = np.einsum("ij,ji->i", solver.means, axes.discriminants) / 2
        self._n_features_out = len(axes.table)
        # sizes of the effects under the prior that has shrunken the means, which the bootstrap keeps
        self._prior_sizes = None if solver.posterior is None else solver.posterior.sizes
        logger.debug(
            "flda: %d cells x %d genes, %d groups, %d axes; solver %s, shrinkage %.3g (%s), residual %.1e",
            *within.shape, design.n_groups, len(axes.table), self.solver_, solved.g, self.shrinkage, solved.residual,
        )  # fmt: skip
        return self

    def transform(self, X) -> np.ndarray:
        """Scores of cells on the axes, (n, k), zero at the unweighted mean of the groups."""
        check_is_fitted(self)
        return self._product(X, self.components_.T) - self._centre @ self.components_.T

    def fit_transform(self, X, y=None, groups=None):
        """Fit, then the scores of the same cells."""
        return self.fit(X, y, groups).transform(X)

    def inverse_transform(self, X) -> np.ndarray:
        """Expression (n, p) with the given scores (n, k) that lies in the span of the group means.

        ``transform(inverse_transform(s)) == s`` as long as the axes are linearly independent.
        """
        check_is_fitted(self)
        scores = np.asarray(X, dtype=np.float64)
        if scores.ndim != 2 or scores.shape[1] != self._n_features_out:
            raise ValueError(
                f"scores must have {self._n_features_out} columns, one per axis; got shape {scores.shape}."
            )
        gram = self._patterns @ self.components_.T
        return scores @ np.linalg.pinv(gram).T @ self._patterns + self._centre

    def predict_proba(self, X):
        """Probability of every level of every factor.

        Groups are Gaussian with the common covariance M_e, and every occupied group has the same prior. The probability
        of a level is the sum over its groups.

        Returns
        -------
        One array (n, levels) for y with one column; else a list of them, or, for a DataFrame y, a DataFrame with
        columns (factor, level).
        """
        probabilities = self._probabilities(X)
        if self._y_kind == "frame":
            levels = self.design_.levels
            columns = pd.MultiIndex.from_tuples(
                [(f, level) for f in probabilities for level in levels[f]], names=["factor", "level"]
            )
            return pd.DataFrame(np.hstack([*probabilities.values()]), columns=columns, index=getattr(X, "index", None))
        found = list(probabilities.values())
        return found[0] if len(found) == 1 else found

    def predict(self, X):
        """Most probable level of every factor: a DataFrame, an (n, F) array or (n,), as y was given."""
        best = {f: self.design_.levels[f][p.argmax(axis=1)] for f, p in self._probabilities(X).items()}
        frame = pd.DataFrame(best, index=getattr(X, "index", None))
        if self._y_kind == "frame":
            return frame
        return frame.iloc[:, 0].to_numpy() if self._y_kind == "vector" else frame.to_numpy()

    def _probabilities(self, X) -> dict[str, np.ndarray]:
        """Probability of the levels of each factor, n x levels."""
        check_is_fitted(self)
        table = self.design_.table
        posterior = softmax(self._discriminate(X), axis=1)
        return {
            f: posterior @ (table.groups[:, [j]] == np.arange(n))
            for j, (f, n) in enumerate(zip(table.factors, table.n_levels, strict=True))
        }

    def score(self, X, y, sample_weight=None) -> float:
        """Accuracy of :meth:`predict`, averaged over the factors."""
        truth = label_frame(y)[0].to_numpy()
        predicted = label_frame(self.predict(X))[0].to_numpy()
        return float(
            np.mean(
                [accuracy_score(t, q, sample_weight=sample_weight) for t, q in zip(truth.T, predicted.T, strict=True)]
            )
        )

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the axes: ``dendrite_1``, ``axon_2``, ``dendrite:axon_1``."""
        check_is_fitted(self)
        return self.axes_["axis"].to_numpy(dtype=object)

    def _prepare(self, X, y, groups) -> Prepared:
        """Check everything, and read the data once: sums, squares and finiteness."""
        if y is None:
            name = type(self).__name__
            raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
        X = checked_matrix(self, X, reset=True)
        labels, self._y_kind = label_frame(y)
        if len(labels) != X.shape[0]:
            raise ValueError(f"X has {X.shape[0]} cells and y has {len(labels)} rows; they must match.")
        if X.shape[0] < 2:
            raise ValueError("X holds 1 sample (cell); a design needs several cells per group.")
        donors, donor_names = donor_codes(groups, X.shape[0])
        self._check_parameters()

        design = make_design(labels, interactions=self.interactions, nuisance=self.nuisance)
        N, p = X.shape
        if design.n_groups == N:
            raise ValueError(
                f"every one of the {N} groups has a single cell, so there is no within-group scatter; "
                "use fewer factors or levels."
            )
        if self.shrinkage == 0 and p >= N - design.n_groups:
            raise ValueError(
                f"shrinkage=0 with {p} genes and {N} cells in {design.n_groups} groups: the within-group scatter is "
                "singular. Set shrinkage='auto' or a number above 0, or select fewer genes."
            )
        penalties = effect_penalties(design, self.penalty)
        n_components = effect_components(design, self.n_components)

        names = getattr(self, "feature_names_in_", None)
        samples = samples_in_error(design, donors, donor_names)
        units = sample_units(design, donors)
        summary = summarise(X, units.codes, len(units.counts), names)
        sums = summary.sums if samples is not None else arrays.group_sums(summary.sums, units.groups, design.n_groups)
        within = Within.from_data(X, design.codes, design.counts, self.within, samples, sums)
        return Prepared(labels, design, donors, penalties, n_components, summary, within)

    def _solve(self, prepared: Prepared) -> Solved:
        """Choose the shrinkage and solve for all effects at once."""
        design, within = prepared.design, prepared.within
        kind = choose_solver(self.solver, within.X, self.shrinkage, design.n_groups)
        solver = kind(within, self.shrinkage_target, design if self.group_means == "shrunken" else None)
        self.shrinkage_path_: pd.DataFrame | None = None
        if isinstance(self.shrinkage, Real):
            g = float(self.shrinkage)
        elif self.shrinkage == "ledoit-wolf":
            g = ledoit_wolf(solver)
        elif self.shrinkage == "oas":
            g = oas(solver)
        else:
            g, self.shrinkage_path_ = cross_validate(
                solver, design, prepared.penalties, prepared.n_components,
                donors=prepared.donors, random_state=self.random_state,
            )  # fmt: skip
        Z, residual = solve(solver, g)
        return Solved(prepared, solver, g, Z, residual)

    def _find_axes(self, solved: Solved) -> Axes:
        rows, weights = [], []
        for effect in solved.design.effects:
            values, w = solved.axes(effect, solved.prepared.n_components[effect])
            weights.append(w)
            rows += [axis_row(effect, c, eigenvalue=v) for c, v in enumerate(values, start=1)]
        W = np.hstack(weights)
        return Axes(pd.DataFrame(rows), solved.Z @ W, W.T @ solved.means, solved.Z)

    def _discriminate(self, X) -> np.ndarray:
        return self._product(X, self._discriminants) - self._centre @ self._discriminants - self._offsets

    def _product(self, X, B: np.ndarray) -> np.ndarray:
        """``X @ B`` for new cells; a value that is no number shows in the product, and is then looked for."""
        X = checked_matrix(self, X, reset=False)
        with np.errstate(invalid="ignore", over="ignore"):
            out = arrays.times(X, B)
        if not np.isfinite(out).all() and (bad := first_nonfinite(X)) is not None:
            raise NonFiniteError(*bad, getattr(self, "feature_names_in_", None))
        return out

    def _check_parameters(self) -> None:
        choices: dict[str, tuple[Any, ...]] = {
            "shrinkage_target": ("identity", "diagonal"),
            "group_means": ("observed", "shrunken"),
            "within": ("pooled", "balanced"),
            "solver": ("auto", "primal", "dual", "iterative"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: use one of {list(allowed)}.")
        g = self.shrinkage
        named = isinstance(g, str) and g in ("auto", "cv", "ledoit-wolf", "oas")
        if not named and not (isinstance(g, Real) and 0 <= g <= 1):
            raise ValueError(f"shrinkage={g!r}: use a number in [0, 1], 'auto', 'cv', 'ledoit-wolf' or 'oas'.")
