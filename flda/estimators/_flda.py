"""FLDA as a scikit-learn estimator: arrays in, arrays out. :mod:`flda.tl` applies it to AnnData."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._data import arrays
from .._data.summary import NonFiniteError, first_nonfinite
from .._design.design import Design
from .._design.effects import Effect
from .._design.entry import check_same_cells, donor_codes, label_frame
from .._design.formula import parse_formula
from .._design.make import make_design
from .._design.per_effect import effect_penalties
from .._logging import get_logger
from .._solve.choose import choose_solver, solve
from .._solve.objective import Noise, Objective
from .._solve.prediction import Calibration, Prior, discriminants
from ..metrics import largest_signs, patterns
from ._input import checked_matrix, row_names
from ._predictor import Predictor, priors_of
from ._prepare import precision_column, prepared_cells, prepared_units
from ._shrinkage import GRID, cross_validate, ledoit_wolf, oas, usable_folds
from ._solved import Axes, Prepared, Solved, axis_row

logger = get_logger(__name__)

# parameters on which a solve depends, besides the shrinkage
SOLVE = (
    "interactions", "nuisance", "numeric", "contrasts", "group_means", "weights", "error", "shrinkage_target", "within",
    "solver",
)  # fmt: skip


class FLDA(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Factorized linear discriminant analysis: axes that vary with one effect and little with the others.

    For every effect S of a factorial design (a factor or an interaction) this estimator finds the directions u that
    maximise the ratio ``u' M_S u / u' (M_e(g) + sum_T lambda_T M_T + lambda_0 M_lof) u``, where T runs over the other
    effects. M_S is the scatter of the estimates of effect S on the group means, M_e(g) is the shrunken within-group
    scatter, and M_lof is what no effect of the fit explains of the group means. So other effects count as noise. The
    solution is exact, and one solve with M_e(g) serves all effects and penalties.

    Parameters
    ----------
    interactions
        The interactions in the fit. ``"all"`` includes every interaction that the groups identify, and logs the names
        of those it leaves out. ``"estimable"`` also includes those of which the groups identify a part, with the
        degrees of freedom of that part. None includes main effects only. A list names the interactions, each as
        ``"a:b"`` or ``("a", "b")``.
    nuisance
        Columns of y, such as a batch, that enter the fit as additive effects without axes of their own. They are
        penalised like any other effect. A nuisance column that ``numeric`` names and that has more than 20 values is a
        covariate, such as an age or the logarithm of the depth of each cell: it makes no groups, and its slope comes
        from how cells differ within groups (and donors).
    numeric
        Columns of y that are numbers and not labels, such as a dose. Their effects are polynomials of the value, in
        which every distinct value counts the same, and every degree is an effect of its own: ``dose.linear``,
        ``dose.quadratic`` and so on, also in interactions (``drug:dose.linear``). A mapping gives for each column

        * a degree (or ``"linear"``, ``"quadratic"``, ``"cubic"``): the polynomials up to this degree. What they leave
          of the group means counts as lack of fit;
        * ``"trend"``: ``dose.linear``, ``dose.quadratic`` and ``dose.rest`` with all other degrees. Together they are
          the effect that the column has as a plain factor;
        * ``"spline"``: ``dose.spline``, a natural cubic spline with three degrees of freedom.

        A name, or a list of names, asks for the linear effects. An ordered categorical without numbers has the values
        0, 1, 2 and so on. Cells with the same values of all columns form a group. Some groups need several cells.
    contrasts
        Named contrasts of groups, such as simple effects, each with an axis of its own:
        ``{"stim in B": ({"type": "B", "condition": "stim"}, {"type": "B", "condition": "ctrl"})}`` is the first side
        less the second. A side names levels, one or a list for each factor, and averages over all levels of the factors
        that it does not name. Weights of groups are also possible, as a mapping or a Series with tuples of one level
        of each factor that is not nuisance, ``{("B", "stim"): 1, ("B", "ctrl"): -1}``. A contrast is taken on the
        fitted means. Against its axis count the effects that cannot contribute to it, because their coding is
        orthogonal to it: for the contrast above, the differences between types. It counts against no axis itself, and
        takes no part in the choice of the shrinkage.
    n_components
        Number of axes per effect. None takes all useful ones, which are as many as the effect has degrees of freedom. A
        dict maps effect names to numbers.
    objective
        ``"ratio"`` is the ratio above. ``"difference"`` is that of the paper,
        ``u' (M_S - sum_T lambda_T M_T) u / u' M_e(g) u``, with the same weight for every group. The ratio had less
        cross-talk on every data set at hand without tuning of its penalty (``benchmarks/RESULTS.md``). The difference
        keeps the most signal on the first axis of some effects.
    penalty
        lambda_T, the weight with which the variance of another effect T counts against an axis. A dict maps the name of
        the other effect to its penalty; effects that it does not name get 1. With ``inf`` the group means do not vary
        at all with that effect along the axis.
    lack_of_fit
        lambda_0, the weight of what no effect explains. It does not matter if the fit has all interactions.
    weights
        How groups weigh in the estimates of effects if the fit does not have all interactions. ``"random"`` weighs
        group c with ``1 / (tau2 + 1 / n_c)``, where the variance tau2 of what no effect explains is estimated by
        moments (DerSimonian and Laird 1986). ``"equal"`` weighs all groups alike. Only the ratio uses ``"random"``.
        Any other name is a column of y with precision weights: the variance of a row is taken to be one over its
        weight, as that of the mean of a pseudobulk sample is over its number of cells. ``error`` is then
        ``"residual"``.
    reliability
        Whether contrasts of an effect count less the more of their variance is the noise of the group means. Only the
        ratio uses it.
    group_means
        ``"observed"`` uses the group means as they are. ``"shrunken"`` uses their posterior means under the factorial
        prior, which moves the mean of a group of few cells towards the prediction of the main effects; the prior is
        fitted again in every fold. It helped where few genes carry the effects, as the prior assumes (two simulations
        and the RNA mixtures), and harmed three real data sets (``benchmarks/RESULTS.md``). So it is worth a try when
        groups are rare, if the certificate agrees.
    error
        What the noise is. ``"within"`` takes what varies within groups. ``"residual"`` takes what the effects leave,
        with ``N`` less the number of coefficients as degrees of freedom, as in an analysis of variance; for tables with
        one unit per group, and for blocks. ``"auto"`` is ``"residual"`` if no group has two units or if there are
        precision weights. With ``interactions="all"`` and one unit per group, the interaction with the most degrees of
        freedom becomes the noise; a log message and ``design_.report`` say so.
    shrinkage
        g in ``M_e(g) = (1 - g) M_e + g T``: a number in [0, 1], ``"ledoit-wolf"``, ``"oas"``, or ``"cv"`` for the value
        of a grid that is best on held-out cells. ``"auto"`` is ``"cv"``. No fixed value and no formula did better on
        six data sets, and fixed values lost much on some of them (``benchmarks/RESULTS.md``).
    shrinkage_target
        The target T. ``"diagonal"`` holds the variance of each gene, so that the axes do not depend on the units of the
        genes. ``"identity"`` is the mean variance of all genes times the identity, for genes on comparable scales; it
        was never clearly better.
    within
        ``"pooled"`` divides the within-group sum of squares by N - C. ``"balanced"`` gives every group the same weight,
        as the estimator of Qiao and Meister does; it was never better.
    prior
        Prior probability of the levels in predictions: ``"equal"``, ``"frequency"`` for their shares in the fitted
        cells, or probabilities in the order of the levels. A dict holds one of these for each factor. Within a level
        the prior of a group is its share of the cells.
    solver
        ``"primal"`` factors M_e (p x p), ``"dual"`` factors the Gram matrix of the cells (N x N), and ``"iterative"``
        forms neither and works by products with the data. ``"auto"`` takes the smaller of the two matrices, or
        ``"iterative"`` if that has more than 10,000 rows or takes more than half of the free memory.
    random_state
        Seed of the cross-validation folds.

    Attributes
    ----------
    effects_ : list of tuple of str
        The effects that have axes, and the named contrasts.
    axes_ : DataFrame
        One row per axis: ``axis, effect, component, eigenvalue``. The eigenvalue is computed on the fitted cells; use
        :func:`flda.inference.certify` to judge the axes on held-out cells.
    components_ : ndarray of shape (k, p)
        The axes u, with ``u' M_e(g) u = 1``. The axes of an effect are mutually orthogonal in the denominator. The sign
        of each is such that the gene with the largest absolute standardised loading has a positive one.
    eigenvalues_ : ndarray of shape (k,)
        The maximised ratio of each axis.
    design_ : Design
        Groups, counts, contrasts, and the report of which effects can be estimated.
    means_ : ndarray of shape (C, p)
        Group means from which the axes are computed, with rows as in ``design_.group_levels()``. With covariates they
        are those at the mean of the covariates, and with ``error="residual"`` they are the fitted ones.
    slopes_ : ndarray of shape (q, p) or None
        Change of expression per standard deviation of each covariate column (``design_.covariates``).
    within_sd_ : ndarray of shape (p,)
        Within-group standard deviation of each gene: the square root of the diagonal of M_e, without shrinkage. A gene
        that varies between groups but not within them is a perfect marker, and has the square root of its entry of the
        shrinkage target, which is the mean variance of all genes.
    patterns_ : ndarray of shape (k, p)
        Correlation of each gene with each axis, as far as both vary with the effect of the axis: which genes differ
        along the axis, whether or not the axis uses them; see :func:`flda.metrics.patterns`.
    donor_share_ : float or None
        Share of donors in the within-group variance of all genes, if donors are in the error term. The variance that
        the means of donors have by their cells alone is subtracted, so the share can be negative.
    prediction_ : DataFrame
        How levels are predicted, one row per factor: ``factor, means, shrinkage, temperature``; see
        :meth:`predict_proba`.
    shrinkage_ : float
        The g that was used. With ``"cv"``, ``shrinkage_path_`` holds the criterion over the grid, and None otherwise.
    solver_ : str
        ``"primal"``, ``"dual"`` or ``"iterative"``.
    residual_ : float
        Relative residual of the linear solve on which all axes are based.
    classes_ : ndarray or list of ndarray
        Levels of each factor; a single array if y had one column.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Qiao M, Meister M. Factorized discriminant analysis for genetic signatures of neuronal phenotypes. Front.
    Neuroinform. 17:1265079 (2023), arXiv 2010.02171.

    DerSimonian R, Laird N. Meta-analysis in clinical trials. Control. Clin. Trials 7:177 (1986).

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
        self.interactions = interactions
        self.nuisance = nuisance
        self.numeric = numeric
        self.contrasts = contrasts
        self.n_components = n_components
        self.objective = objective
        self.penalty = penalty
        self.lack_of_fit = lack_of_fit
        self.weights = weights
        self.reliability = reliability
        self.group_means = group_means
        self.error = error
        self.shrinkage = shrinkage
        self.shrinkage_target = shrinkage_target
        self.within = within
        self.prior = prior
        self.solver = solver
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags

    def design_of(self, labels: pd.DataFrame) -> Design:
        """Return the groups and effects of cells with these labels, one column per factor."""
        return make_design(
            labels, interactions=self.interactions, nuisance=self.nuisance, numeric=self.numeric,
            contrasts=self.contrasts, error=self.error, weights=precision_column(self.weights),
        )  # fmt: skip

    @classmethod
    def from_formula(
        cls, formula: str, data: pd.DataFrame, *, nuisance: Sequence[str] = (), **parameters: Any
    ) -> tuple[Self, pd.DataFrame]:
        """Return an estimator for the factors and interactions of a formula, and the labels y to fit it on.

        It needs formulaic (``pip install "flda[formula]"``).

        Parameters
        ----------
        formula
            One side, such as ``"~ drug * dose + batch"``. A term is a column, ``C(column)`` if its numbers are labels,
            ``poly(column, degree)``, or an interaction. Other columns of numbers have their linear effect.
        data
            The columns, one row per cell.
        nuisance
            Columns without axes; those that the formula does not name are added.
        parameters
            Further parameters of the estimator. ``numeric`` takes precedence over what the formula says of a column.

        Raises
        ------
        ImportError, ValueError
            If formulaic is not installed, or the formula cannot be used.

        Examples
        --------
        >>> import pandas as pd
        >>> from flda import FLDA
        >>> data = pd.DataFrame({"drug": ["a", "b"] * 4, "dose": [0.0, 0.0, 1.0, 1.0] * 2})
        >>> model, y = FLDA.from_formula("~ drug * dose", data, shrinkage=0.1)
        >>> model.interactions, model.numeric, list(y)
        (['drug:dose'], {'dose': 1}, ['drug', 'dose'])
        """
        if "interactions" in parameters:
            raise ValueError("a formula says which interactions are in the fit; leave interactions out.")
        found = parse_formula(formula, data, nuisance, parameters.pop("numeric", None))
        model = cls(
            interactions=found.interactions or None, nuisance=found.nuisance, numeric=found.numeric or None,
            **parameters,
        )  # fmt: skip
        return model, data[[*found.factors, *found.nuisance]]

    def fit(self, X, y, groups=None) -> Self:
        """Compute the axes of all effects from expression and labels.

        Parameters
        ----------
        X
            Expression, cells x genes, normally log-normalised. It may be an ndarray, any scipy.sparse matrix or array,
            a dask array with dense or CSR chunks (read in blocks of rows, several times), or a dense array or CSR
            matrix of cupy (which stays on the GPU). All results are NumPy arrays.
        y
            Labels of the cells: a DataFrame with one column per factor, an (N, F) array, or an (N,) array for one
            factor.
        groups
            Donor of each cell, (N,). Cross-validated shrinkage then holds out whole donors. If a factor varies between
            donors, group means are the means of the donors' means, and the error term gets a donor level: M_e is the
            scatter of the cells about the means of their donors plus n times the covariance of these means, where n is
            the harmonic mean number of cells per donor and group.

        Returns
        -------
        The fitted estimator.

        Raises
        ------
        ValueError
            If X is not finite, labels are missing or do not match X, an effect cannot be estimated, a parameter is not
            valid, or the scatter is singular and ``shrinkage=0``.
        """
        self._fit(self._prepare(X, y, groups))
        return self

    def _fit(self, prepared: Prepared, like: Solved | None = None, *, axes_only: bool = False) -> Solved:
        """Fit to checked input and return the solve.

        ``like`` is the solve of another estimator on the same cells, with the same shrinkage and all else that a solve
        depends on (SOLVE), which is then used again. With ``axes_only`` the estimator can transform, but not predict,
        and lacks the tables that describe a fit; the fit of a fold needs no more.
        """
        solved = self._solve(prepared, like, calibrate=not axes_only)
        axes = self._find_axes(solved)
        within, design, solver = prepared.within, prepared.design, solved.solver
        self.design_ = design
        self.effects_: list[Effect] = design.effects
        self.axes_ = axes.table
        self.eigenvalues_ = axes.table["eigenvalue"].to_numpy()
        self.within_sd_ = solved.within_sd
        signs = largest_signs(axes.U * self.within_sd_[:, None])
        self.components_ = np.ascontiguousarray((axes.U * signs).T)
        self.means_ = solver.group_means
        self.slopes_ = within.of_covariates
        self.patterns_ = patterns(self.means_, design, axes.table["effect"], self.components_, sd=self.within_sd_)
        self.donor_share_ = within.donor_share(solver.variances)
        self.shrinkage_, self.solver_, self.residual_ = solved.g, solver.name, solved.residual
        levels = [design.levels[f] for f in design.table.factors]
        self.classes_ = levels[0] if len(levels) == 1 else levels
        # all that transform and inverse_transform need
        self._centre = solver.centre
        self._reconstruction = axes.patterns * signs[:, None]
        # what the genes of sparse axes alone cannot estimate
        self._delta, self._mean_variance = within.delta, float(np.mean(solver.variances))
        self._terms = solved.terms  # the bootstrap refits the axes with the objective of all genes
        self._n_features_out = len(axes.table)
        # sizes omega_S^2 of the effects under the prior of the group means; the bootstrap keeps them fixed
        self._prior_sizes = None if solver.posterior is None else solver.posterior.sizes
        if not axes_only:
            self._describe(solved, axes)
        logger.debug(
            "flda: %d cells x %d genes, %d groups, %d axes; solver %s, shrinkage %.3g (%s), residual %.1e",
            *within.shape, design.n_groups, len(axes.table), self.solver_, solved.g, self.shrinkage, solved.residual,
        )  # fmt: skip
        return solved

    def _describe(self, solved: Solved, axes: Axes) -> None:
        """Set what describes a fit beyond its axes: all that predict needs."""
        self._predictor = self._find_predictor(solved)
        self.prediction_ = self._predictor.table()

    def _fit_axes(self, X, y, groups=None):
        """Fit the axes alone; see ``axes_only`` of :meth:`_fit`."""
        self._fit(self._prepare(X, y, groups), axes_only=True)
        return self

    def transform(self, X) -> np.ndarray:
        """Compute the scores of cells on the axes, (n, k), which are zero at the unweighted mean of the groups."""
        check_is_fitted(self)
        return self._product(X, self.components_.T) - self._centre @ self.components_.T

    def fit_transform(self, X, y=None, groups=None):
        """Fit the axes and compute the scores of the same cells, (N, k)."""
        return self.fit(X, y, groups).transform(X)

    def inverse_transform(self, X) -> np.ndarray:
        """Compute the expression (n, p) in the span of the group means that has the given scores X (n, k).

        ``transform(inverse_transform(X))`` equals X if the axes are linearly independent.
        """
        check_is_fitted(self)
        scores = np.asarray(X, dtype=np.float64)
        if scores.ndim != 2 or scores.shape[1] != self._n_features_out:
            raise ValueError(
                f"scores must have {self._n_features_out} columns, one for each axis; got shape {scores.shape}."
            )
        # with U (p x k) the axes and P = U' M_e(g) the patterns, the scores of s (P U)^-1 P are s; P U is symmetric
        gram = self._reconstruction @ self.components_.T
        return scores @ np.linalg.pinv(gram).T @ self._reconstruction + self._centre

    def predict_proba(self, X):
        """Compute the probability of every level of every factor.

        The groups are modelled as Gaussian with the common covariance M_e(g). The probability of a level is the sum
        over its groups. With cross-validated shrinkage, the held-out cells of the same folds choose what predicts them
        best by log-loss: g, one temperature per factor, which corrects overconfidence, and the means of the groups.
        These are the observed means, the fitted values of the effects, or observed means that are moved towards the
        main effects, the more the fewer cells a group has. With a fixed shrinkage there are no held-out cells, and
        probabilities are not calibrated. ``prediction_`` says what was chosen.

        Returns
        -------
        If y had one column, an array (n, levels). Otherwise a list of such arrays, or, if y was a DataFrame, a
        DataFrame with columns (factor, level).
        """
        probabilities = self._probabilities(X)
        if self._y_kind == "frame":
            levels = self.design_.levels
            columns = pd.MultiIndex.from_tuples(
                [(f, level) for f in probabilities for level in levels[f]], names=["factor", "level"]
            )
            return pd.DataFrame(np.hstack([*probabilities.values()]), columns=columns, index=row_names(X))
        found = list(probabilities.values())
        return found[0] if len(found) == 1 else found

    def predict(self, X):
        """Predict the level of every factor for each cell: the most probable one.

        The result has the form of y: a DataFrame, an (n, F) array, or an (n,) array.
        """
        best = {f: self.design_.levels[f][p.argmax(axis=1)] for f, p in self._probabilities(X).items()}
        frame = pd.DataFrame(best, index=row_names(X))
        if self._y_kind == "frame":
            return frame
        return frame.iloc[:, 0].to_numpy() if self._y_kind == "vector" else frame.to_numpy()

    def _probabilities(self, X) -> dict[str, np.ndarray]:
        """Compute the probability of the levels of each factor, n x levels."""
        check_is_fitted(self)
        found = self._predictor
        products = self._product(X, found.discriminants) - found.centre @ found.discriminants
        return found.probabilities(products, self.prior)

    def score(self, X, y, sample_weight=None) -> float:
        """Compute the accuracy of :meth:`predict`, averaged over the factors."""
        truth, predicted = label_frame(y)[0], label_frame(self.predict(X))[0]
        if set(predicted) <= set(truth):  # in the order of the fit, and without covariates, which are not predicted
            truth = truth[predicted.columns]
        if truth.shape != predicted.shape:
            raise ValueError(f"y must have the columns of the fit, {list(predicted)}, and a row per cell of X.")
        truth, predicted = truth.to_numpy(), predicted.to_numpy()
        # levels may be numbers that are no whole numbers, which metrics.accuracy_score does not take for labels
        return float(
            np.mean([np.average(t == q, weights=sample_weight) for t, q in zip(truth.T, predicted.T, strict=True)])
        )

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Return the names of the axes, such as ``dendrite_1``, ``axon_2`` and ``dendrite:axon_1``."""
        check_is_fitted(self)
        return self.axes_["axis"].to_numpy(dtype=object)

    def _prepare(self, X, y, groups) -> Prepared:
        """Check all input, and read the data once for group sums, squares and finiteness."""
        if y is None:
            name = type(self).__name__
            raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
        check_same_cells(X, y, groups)
        X = checked_matrix(self, X, reset=True)
        labels, self._y_kind = label_frame(y)
        if len(labels) != X.shape[0]:
            raise ValueError(f"X has {X.shape[0]} cells and y has {len(labels)} rows; they must match.")
        if X.shape[0] < 2:
            raise ValueError("X holds 1 sample (cell); a design needs several cells per group, so give more cells.")
        donors, donor_names = donor_codes(groups, X.shape[0])
        self._check_parameters()

        design = self.design_of(labels)
        if design.residual:
            return prepared_units(self, X, labels, design, donors)
        return prepared_cells(self, X, labels, design, donors, donor_names)

    def _objective(self, design: Design) -> Objective:
        penalties = effect_penalties(design, self.penalty)
        weights = "equal" if self.weights == "equal" else "random"
        return Objective(self.objective, penalties, self.lack_of_fit, weights, self.reliability)

    def _solve(self, prepared: Prepared, like: Solved | None = None, *, calibrate: bool = True) -> Solved:
        """Choose the shrinkage, and solve ``M_e(g) Z = G'`` once for all effects.

        With ``calibrate`` the held-out cells of the shrinkage's folds also calibrate predictions.
        """
        design, within = prepared.design, prepared.within
        self.shrinkage_path_: pd.DataFrame | None = None
        if like is not None:
            return replace(like, prepared=prepared, calibration=None)
        kind = choose_solver(self.solver, within.X, self.shrinkage, design.n_groups)
        splits = []
        if self.shrinkage in ("auto", "cv"):
            splits = usable_folds(design, prepared.donors, self.random_state)
        solver = kind(within, self.shrinkage_target, design if self.group_means == "shrunken" else None, splits)
        calibration = None
        if isinstance(self.shrinkage, Real):
            g = float(self.shrinkage)
        elif self.shrinkage == "ledoit-wolf":
            g = ledoit_wolf(solver)
        elif self.shrinkage == "oas":
            g = oas(solver)
        else:
            calibration = Calibration(GRID, priors_of(design, self.prior)) if calibrate else None
            g, self.shrinkage_path_ = cross_validate(
                solver, design, prepared.objective, prepared.n_components, splits, calibration
            )  # fmt: skip
        return Solved(prepared, solver, g, *solve(solver, g), calibration)

    def _find_axes(self, solved: Solved) -> Axes:
        rows, weights = [], []
        for effect in solved.design.effects:
            values, w = solved.axes(effect, solved.prepared.n_components[effect])
            weights.append(w)
            rows += [axis_row(effect, c, eigenvalue=v) for c, v in enumerate(values, start=1)]
        W = np.hstack(weights)
        return Axes(pd.DataFrame(rows), solved.Z @ W, W.T @ solved.means)

    def _find_predictor(self, solved: Solved) -> Predictor:
        """Compute the discriminants at the g, with the means and temperatures, that predict held-out cells best."""
        design, solver = solved.design, solved.solver
        chosen = None if solved.calibration is None else solved.calibration.choose()
        # without held-out cells there is nothing to choose from or to calibrate with
        g, means, temperatures = chosen or (solved.g, "shrunken", dict.fromkeys(design.table.factors, 1.0))
        Z, noise = solved.Z, solved.noise
        if g != solved.g:
            # a rounding error does not change a prediction, so the solve is not refined, which would read the data
            Z, inverse = solver.solve_means(g)
            noise = Noise(inverse.trace(), solver.within.n_effective)
        found = discriminants(design, solved.means @ Z, noise)
        means = means if means in found else next(iter(found))
        return Predictor(
            levels={f: design.levels[f] for f in design.table.factors},
            groups=design.table.groups,
            counts=design.counts,
            centre=solver.centre,
            discriminants=Z[:, : design.n_groups] @ found[means].map.T,
            offsets=found[means].offsets,
            temperatures=temperatures,
            means=means,
            shrinkage=g,
        )

    def _product(self, X, B: np.ndarray) -> np.ndarray:
        """Compute ``X @ B`` for new cells; if the result is not finite, find the value of X that is to blame."""
        X = checked_matrix(self, X, reset=False)
        with np.errstate(invalid="ignore", over="ignore"):
            out = arrays.times(X, B)
        if not np.isfinite(out).all() and (bad := first_nonfinite(X)) is not None:
            raise NonFiniteError(*bad, getattr(self, "feature_names_in_", None))
        return out

    def _check_parameters(self) -> None:
        choices: dict[str, tuple[Any, ...]] = {
            "objective": ("ratio", "difference"),
            "reliability": (True, False),
            "shrinkage_target": ("identity", "diagonal"),
            "group_means": ("observed", "shrunken"),
            "within": ("pooled", "balanced"),
            "solver": ("auto", "primal", "dual", "iterative"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: use one of {list(allowed)}.")
        if not (isinstance(self.lack_of_fit, Real) and 0 <= self.lack_of_fit < np.inf):
            raise ValueError(f"lack_of_fit={self.lack_of_fit!r}: use a number of 0 or more.")
        g = self.shrinkage
        named = isinstance(g, str) and g in ("auto", "cv", "ledoit-wolf", "oas")
        if not named and not (isinstance(g, Real) and 0 <= g <= 1):
            raise ValueError(f"shrinkage={g!r}: use a number in [0, 1], 'auto', 'cv', 'ledoit-wolf' or 'oas'.")
