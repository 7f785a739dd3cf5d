"""Linear circuits: regression whose coefficients have known signs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import lsq_linear, nnls
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.linear_model import enet_path
from sklearn.utils.validation import check_is_fitted, validate_data

from ._sign_mask import SignMask, check_signs


class SignedLinear(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Sparse linear regression with coefficients of known sign, for the synapses onto linear neurons.

    For each output, minimises ``|y - X w - b|^2 / (2 n) + alpha |w|_1 + ridge / 2 |w|^2``, where each coefficient is
    constrained to be non-negative, non-positive, unconstrained or zero. If inputs of the same sign are positively
    correlated, the signs alone can recover sparse weights, without any penalty.

    Parameters
    ----------
    signs
        ``(n_features,)``, or ``(n_features, n_outputs)`` if signs differ between outputs: +1, -1, NaN (unconstrained)
        or 0 (no synapse). None leaves all coefficients unconstrained. A :class:`SignMask`, Series or DataFrame also
        works; if X is a DataFrame, its rows are matched to the columns of X by name.
    alpha
        Weight of the L1 penalty.
    ridge
        Weight of the squared penalty.
    fit_intercept
        Whether to fit b, which is not penalised.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Coefficients w, in units of y per unit of X.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercept b.
    kkt_residual_ : float
        Largest violation of the optimality (Karush-Kuhn-Tucker) conditions over all outputs, divided by the largest
        gradient at w = 0. Zero means that the solution is exact.
    n_features_in_ : int
        Number of features.

    Raises
    ------
    ValueError
        In ``fit``, if signs have the wrong shape or other values, or if a penalty is negative.

    References
    ----------
    Slawski M, Hein M. Non-negative least squares for high-dimensional linear models. Electron. J. Stat. 7:3004 (2013).

    Meinshausen N. Sign-constrained least squares estimation for high-dimensional regression. Electron. J. Stat. 7:1607
    (2013).

    Solvers: non-negative and bounded-variable least squares of scipy, and the coordinate descent of scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import SignedLinear
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 3))
    >>> y = X @ [1.0, -2.0, 0.0]
    >>> SignedLinear(signs=[1, -1, 1]).fit(X, y).coef_.round(6).tolist()
    [1.0, -2.0, 0.0]
    >>> SignedLinear(signs=[1, 1, 1]).fit(X, y).coef_.round(2).tolist()[1]
    0.0
    """

    def __init__(
        self,
        signs: Any = None,
        *,
        alpha: float = 0.0,
        ridge: float = 0.0,
        fit_intercept: bool = True,
    ) -> None:
        self.signs = signs
        self.alpha = alpha
        self.ridge = ridge
        self.fit_intercept = fit_intercept

    def fit(self, X, y) -> SignedLinear:
        """Fit the coefficients.

        Parameters
        ----------
        X
            ``(n_samples, n_features)``, activity of the inputs.
        y
            ``(n_samples,)`` or ``(n_samples, n_outputs)``, responses.

        Returns
        -------
        SignedLinear
            The fitted model itself.
        """
        X, Y, signs, one = self._checked(X, y)
        Xc, Yc, x_mean, y_mean = self._centred(X, Y)
        fits = [self._solve(Xc, Yc[:, j], signs[:, j], np.array([self.alpha])) for j in range(Y.shape[1])]
        self._store(np.stack([w[0] for w, _ in fits]), x_mean, y_mean, one)
        self.kkt_residual_ = max(residual for _, residual in fits)
        return self

    def path(self, X, y, *, alphas: Any = None, n_alphas: int = 30) -> tuple[np.ndarray, np.ndarray]:
        """Compute the coefficients for a sequence of L1 penalties.

        Parameters
        ----------
        X, y
            As in :meth:`fit`.
        alphas
            Positive penalties. By default ``n_alphas`` values, evenly spaced in log, from the smallest penalty at which
            all coefficients are zero down to a thousandth of it.
        n_alphas
            Number of penalties if ``alphas`` is None.

        Returns
        -------
        alphas : ndarray of shape (n_alphas,)
            The penalties, in decreasing order.
        coefs : ndarray of shape (n_alphas, n_features) or (n_alphas, n_outputs, n_features)
            Coefficients at each penalty.

        Raises
        ------
        ValueError
            If a penalty is not positive, or if no coefficient of the given signs can lower the error.

        Examples
        --------
        >>> import numpy as np
        >>> from flda.circuits import SignedLinear
        >>> X = np.random.default_rng(0).normal(size=(50, 3))
        >>> alphas, coefs = SignedLinear([1, 1, 1]).path(X, X[:, 0], n_alphas=5)
        >>> [int(np.count_nonzero(w)) for w in coefs[:2]]
        [0, 1]
        """
        checked, Y, signs, one = self._checked(X, y)
        Xc, Yc, *_ = self._centred(checked, Y)
        if alphas is None:
            # w = 0 is optimal while no gradient in an allowed direction exceeds alpha
            pull = Xc.T @ Yc / len(Xc)
            reach = np.where(np.isnan(signs), np.abs(pull), np.maximum(pull * np.nan_to_num(signs), 0)).max()
            if reach <= 0:
                raise ValueError("no coefficient of the given signs lowers the error; check the signs.")
            alphas = reach * np.geomspace(1, 1e-3, n_alphas)
        alphas = np.sort(np.asarray(alphas, float))[::-1]
        if len(alphas) == 0 or alphas[-1] <= 0:
            raise ValueError("alphas must be positive; for a model without a penalty call fit.")
        coefs = np.stack([self._solve(Xc, Yc[:, j], signs[:, j], alphas)[0] for j in range(Y.shape[1])], axis=1)
        return alphas, coefs[:, 0] if one else coefs

    def predict(self, X) -> np.ndarray:
        """Predict responses.

        Parameters
        ----------
        X
            ``(n_samples, n_features)``.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            ``X w + b``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=float)
        return X @ self.coef_.T + self.intercept_

    def _checked(self, X, y) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """X, responses and signs with one column per output, and whether y had one dimension."""
        features = X.columns if isinstance(X, pd.DataFrame) else None
        outputs = y.columns if isinstance(y, pd.DataFrame) else None
        X, y = validate_data(self, X, y, dtype=float, multi_output=True, y_numeric=True)
        if min(self.alpha, self.ridge) < 0:
            raise ValueError(f"alpha={self.alpha} and ridge={self.ridge} must not be negative.")
        Y = y.astype(float).reshape(len(X), -1)
        if self.signs is None:
            return X, Y, np.full((X.shape[1], Y.shape[1]), np.nan), y.ndim == 1
        given = check_signs(_ordered(self.signs, features, outputs))
        if given.ndim == 1 and len(given) == X.shape[1]:
            given = np.repeat(given[:, None], Y.shape[1], axis=1)
        if given.shape != (X.shape[1], Y.shape[1]):
            raise ValueError(
                f"signs have shape {given.shape}; {X.shape[1]} features and {Y.shape[1]} outputs need "
                f"({X.shape[1]},) or ({X.shape[1]}, {Y.shape[1]})."
            )
        return X, Y, given, y.ndim == 1

    def _centred(self, X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        if not self.fit_intercept:
            return X, Y, np.zeros(X.shape[1]), np.zeros(Y.shape[1])
        x_mean, y_mean = X.mean(axis=0), Y.mean(axis=0)
        return X - x_mean, Y - y_mean, x_mean, y_mean

    def _store(self, coef: np.ndarray, x_mean: np.ndarray, y_mean: np.ndarray, one: bool) -> None:
        intercept = y_mean - coef @ x_mean
        self.coef_ = coef[0] if one else coef
        self.intercept_ = float(intercept[0]) if one else intercept

    def _solve(self, X: np.ndarray, y: np.ndarray, signs: np.ndarray, alphas: np.ndarray) -> tuple[np.ndarray, float]:
        """Coefficients of one output for every penalty, and the largest violation of optimality among them."""
        w = np.zeros((len(alphas), X.shape[1]))
        used = np.flatnonzero((signs != 0) & X.any(axis=0))  # a constant input, centred, is all zero: no coefficient
        if len(used) == 0:
            return w, 0.0
        A, s = np.asfortranarray(X[:, used]), signs[used]
        found = self._descend(A, y, s, alphas) if alphas[-1] > 0 else self._bounded(A, y, s)[None]
        polished = [self._polish(A, y, s, start, alpha) for start, alpha in zip(found, alphas, strict=True)]
        w[:, used] = [best for best, _ in polished]
        return w, max(residual for _, residual in polished)

    def _bounded(self, A: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Solution without an L1 penalty, by bounded least squares."""
        n = len(A)
        if self.ridge > 0:
            # |y - A w|^2 / (2 n) + ridge / 2 |w|^2 is least squares with the rows sqrt(n ridge) I appended to A
            A, y = (
                np.vstack([A, np.sqrt(n * self.ridge) * np.eye(A.shape[1])]),
                np.concatenate([y, np.zeros(A.shape[1])]),
            )
        size = np.linalg.norm(A, axis=0)  # columns of unit length: bounds at zero do not change, conditioning improves
        lower = np.where(s == 1, 0.0, -np.inf)
        upper = np.where(s == -1, 0.0, np.inf)
        if not np.isnan(s).any():
            return s * nnls(A * (s / size), y, maxiter=50 * A.shape[1])[0] / size
        if np.isnan(s).all():
            return np.linalg.lstsq(A / size, y, rcond=None)[0] / size
        found = lsq_linear(
            A / size, y, bounds=(lower, upper), method="bvls", tol=1e-14, max_iter=max(100, 10 * A.shape[1])
        )
        w = found.x / size
        return np.where((s * w > 0) | np.isnan(s), w, 0.0)

    def _descend(self, A: np.ndarray, y: np.ndarray, s: np.ndarray, alphas: np.ndarray) -> np.ndarray:
        """Solutions with an L1 penalty, by the non-negative elastic net.

        Columns are multiplied by their sign, so that all coefficients are non-negative. An unconstrained coefficient
        is the difference of two non-negative ones.
        """
        free = np.flatnonzero(np.isnan(s))
        turned = np.hstack([A * np.where(np.isnan(s), 1.0, s), -A[:, free]])
        found = np.empty((len(alphas), A.shape[1]))
        both = None
        with warnings.catch_warnings():  # convergence is judged by kkt_residual_, after polishing
            warnings.simplefilter("ignore")
            # scikit-learn has l1_ratio constant along a path; a constant ridge needs one call per penalty
            for i, alpha in enumerate(alphas):
                total = alpha + self.ridge
                both = enet_path(
                    np.asfortranarray(turned), y, l1_ratio=alpha / total, alphas=[total], positive=True, coef_init=both,
                    max_iter=10_000, tol=1e-6,
                )[1][:, 0]  # fmt: skip
                found[i] = both[: A.shape[1]] * np.where(np.isnan(s), 1.0, s)
                found[i, free] -= both[A.shape[1] :]
        return found

    def _polish(
        self, A: np.ndarray, y: np.ndarray, s: np.ndarray, w: np.ndarray, alpha: float
    ) -> tuple[np.ndarray, float]:
        """Refine a solution until it is exact, and return it with its violation of optimality.

        If the active coefficients and their signs are right, the solution on them is that of linear equations. The
        active set starts from ``w`` and changes by one coefficient at a time; the best solution seen is returned.
        """
        n = len(A)
        best, lowest = w, self._violation(A, y, s, w, alpha)
        active = w != 0
        for _ in range(100):
            if lowest < 1e-12 or not active.any():
                break
            B = A[:, active]
            # direction of the L1 penalty: the known sign, else that of w, else that of the gradient
            toward = np.where(np.isnan(s), np.sign(np.where(w != 0, w, self._slope(A, y, w))), s)[active]
            gram = B.T @ B / n + self.ridge * np.eye(B.shape[1])
            new = np.zeros_like(w)
            new[active] = np.linalg.lstsq(gram, B.T @ y / n - alpha * toward, rcond=None)[0]
            crossed = np.zeros(len(w), bool)
            crossed[active] = new[active] * toward < 0
            if alpha == 0:
                crossed &= ~np.isnan(s)  # without an L1 penalty an unconstrained coefficient may change its sign
            if crossed.any():  # these coefficients are zero at the optimum: remove them and solve again
                active = active & ~crossed
                w = np.where(active, w, 0.0)
                continue
            w = new
            violation = self._violation(A, y, s, w, alpha)
            if violation < lowest:
                best, lowest = w, violation
            slope = self._slope(A, y, w)
            # an inactive coefficient whose gradient exceeds alpha in an allowed direction should be active
            gain = np.where(active, -np.inf, np.where(np.isnan(s), np.abs(slope), slope * np.nan_to_num(s)) - alpha)
            if gain.max() <= 0:
                break
            active = active.copy()
            active[int(np.argmax(gain))] = True
        return best, lowest

    def _slope(self, A: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Negative gradient of the objective without its L1 penalty."""
        return A.T @ (y - A @ w) / len(A) - self.ridge * w

    def _violation(self, A: np.ndarray, y: np.ndarray, s: np.ndarray, w: np.ndarray, alpha: float) -> float:
        """Largest violation of the Karush-Kuhn-Tucker conditions, divided by the largest gradient at w = 0.

        At the optimum the negative gradient equals ``alpha sign(w)`` for active coefficients, and for inactive ones
        does not exceed alpha in any allowed direction.
        """
        slope = self._slope(A, y, w)
        inactive = np.where(np.isnan(s), np.abs(slope), slope * np.nan_to_num(s)) - alpha
        wrong = np.where(w != 0, np.abs(slope - alpha * np.sign(w)), np.maximum(inactive, 0.0))
        scale = np.abs(A.T @ y).max() / len(A)
        return float(wrong.max() / scale) if scale > 0 else 0.0


def _ordered(signs: Any, features: pd.Index | None, outputs: pd.Index | None) -> Any:
    """Signs in the order of the features and outputs, if both have names."""
    table = signs.values if isinstance(signs, SignMask) else signs
    if not isinstance(table, (pd.Series, pd.DataFrame)):
        return table
    sides = [(0, features, "columns of X")] + [(1, outputs, "columns of y")] * (table.ndim == 2)
    for axis, names, what in sides:
        have = table.axes[axis]
        # a table whose names are only positions is in the order of the features
        if names is None or isinstance(have, pd.RangeIndex) or have.equals(names):
            continue
        missing = names.difference(have)
        if not have.is_unique or len(missing):
            name = missing[0] if len(missing) else have[have.duplicated()][0]
            raise ValueError(f"signs must have one entry for each of the {what}; check {name!r}.")
        table = table.reindex(names, axis=axis)
    return table.to_numpy()
