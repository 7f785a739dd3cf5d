"""Linear circuits: regression whose coefficients have known signs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear, nnls
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.linear_model import enet_path
from sklearn.utils.validation import check_is_fitted, validate_data

from .signs import check_signs


class SignedLinear(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Sparse linear regression with coefficients of known sign: synapses onto one (or several) linear neurons.

    Minimises, for every output, ``|y - X w - b|^2 / (2 n) + alpha |w|_1 + ridge / 2 |w|^2`` over coefficients that are
    non-negative, non-positive, free or absent. Without a penalty, signs alone can recover sparse weights when inputs
    of one sign are positively correlated.

    Parameters
    ----------
    signs
        ``(n_features,)``, or ``(n_features, n_outputs)`` for signs that differ between outputs: +1, -1, NaN (free) or 0
        (no synapse: the coefficient is zero). None leaves all free. A :class:`SignMask` will do, with rows in
        the order of the features.
    alpha
        L1 penalty.
    ridge
        Squared penalty.
    fit_intercept
        Fit b, without penalty.

    Attributes
    ----------
    coef_
        ``(n_features,)`` or ``(n_outputs, n_features)``.
    intercept_
        Number or ``(n_outputs,)``.
    kkt_residual_
        Largest violation of the optimality conditions over all outputs, as a share of the largest gradient at zero; 0
        is exact.

    Raises
    ------
    ValueError
        At ``fit``, for signs of the wrong shape or value, or negative penalties.

    References
    ----------
    Slawski M, Hein M. Non-negative least squares for high-dimensional linear models. Electron. J. Stat. 7:3004 (2013);
    Meinshausen N. Sign-constrained least squares estimation. Electron. J. Stat. 7:1607 (2013). Solvers: scipy's
    bounded-variable least squares and scikit-learn's coordinate descent.

    Examples
    --------
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
        """Fit to inputs ``(n_samples, n_features)`` and responses ``(n_samples,)`` or ``(n_samples, n_outputs)``."""
        X, Y, signs, one = self._checked(X, y)
        Xc, Yc, x_mean, y_mean = self._centred(X, Y)
        fits = [self._solve(Xc, Yc[:, j], signs[:, j], np.array([self.alpha])) for j in range(Y.shape[1])]
        self._store(np.stack([w[0] for w, _ in fits]), x_mean, y_mean, one)
        self.kkt_residual_ = max(residual for _, residual in fits)
        return self

    def path(self, X, y, *, alphas: Any = None, n_alphas: int = 30) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients along a path of L1 penalties.

        Parameters
        ----------
        X, y
            As in :meth:`fit`.
        alphas
            Penalties; default ``n_alphas`` from the one that leaves no coefficient, down to a thousandth of it.
        n_alphas
            Their number.

        Returns
        -------
        ``alphas``, decreasing, and coefficients ``(n_alphas, n_features)`` or ``(n_alphas, n_outputs, n_features)``.
        """
        if alphas is None:
            checked, Y, signs, one = self._checked(X, y)
            Xc, Yc, *_ = self._centred(checked, Y)
            pull = Xc.T @ Yc / len(Xc)
            reach = np.where(np.isnan(signs), np.abs(pull), np.maximum(pull * np.nan_to_num(signs), 0)).max()
            if reach <= 0:
                raise ValueError(
                    "no coefficient of the given signs lowers the error: the path is empty; check the signs."
                )
            alphas = reach * np.geomspace(1, 1e-3, n_alphas)
        alphas = np.sort(np.asarray(alphas, float))[::-1]
        if len(alphas) == 0 or alphas[-1] <= 0:
            raise ValueError("alphas must be positive; without a penalty use fit.")
        checked, Y, signs, one = self._checked(X, y)
        Xc, Yc, *_ = self._centred(checked, Y)
        coefs = np.stack([self._solve(Xc, Yc[:, j], signs[:, j], alphas)[0] for j in range(Y.shape[1])], axis=1)
        return alphas, coefs[:, 0] if one else coefs

    def predict(self, X) -> np.ndarray:
        """Responses ``(n_samples,)`` or ``(n_samples, n_outputs)``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=float)
        return X @ self.coef_.T + self.intercept_

    def _checked(self, X, y) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        X, y = validate_data(self, X, y, dtype=float, multi_output=True, y_numeric=True)
        if min(self.alpha, self.ridge) < 0:
            raise ValueError(f"alpha={self.alpha} and ridge={self.ridge} must not be negative.")
        Y = y.astype(float).reshape(len(X), -1)
        if self.signs is None:
            return X, Y, np.full((X.shape[1], Y.shape[1]), np.nan), y.ndim == 1
        given = getattr(self.signs, "values", self.signs)
        given = check_signs(given)
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
        """Coefficients of one output for every penalty, and how far the worst is from optimal."""
        w = np.zeros((len(alphas), X.shape[1]))
        here = np.flatnonzero((signs != 0) & X.any(axis=0))  # a constant input cannot have a coefficient
        if len(here) == 0:
            return w, 0.0
        A, s = np.asfortranarray(X[:, here]), signs[here]
        found = self._descend(A, y, s, alphas) if alphas[-1] > 0 else self._bounded(A, y, s)[None]
        polished = [self._polish(A, y, s, start, alpha) for start, alpha in zip(found, alphas, strict=True)]
        w[:, here] = [best for best, _ in polished]
        return w, max(residual for _, residual in polished)

    def _bounded(self, A: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        n = len(A)
        if self.ridge > 0:
            A, y = (
                np.vstack([A, np.sqrt(n * self.ridge) * np.eye(A.shape[1])]),
                np.concatenate([y, np.zeros(A.shape[1])]),
            )
        size = np.linalg.norm(A, axis=0)
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
        """Non-negative elastic net in columns turned by their sign; a free coefficient is a difference of two."""
        free = np.flatnonzero(np.isnan(s))
        turned = np.hstack([A * np.where(np.isnan(s), 1.0, s), -A[:, free]])
        found = np.empty((len(alphas), A.shape[1]))
        both = None
        with warnings.catch_warnings():  # judged by kkt_residual_ after polishing
            warnings.simplefilter("ignore")
            for i, alpha in enumerate(alphas):  # the ridge is no fixed share of the penalty: one call each
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
        """Active-set steps from a good start while they improve the optimality conditions, and their violation."""
        n = len(A)
        best, lowest = w, self._violation(A, y, s, w, alpha)
        active = w != 0
        for _ in range(100):
            if lowest < 1e-12 or not active.any():
                break
            B = A[:, active]
            toward = np.where(np.isnan(s), np.sign(np.where(w != 0, w, self._slope(A, y, w))), s)[active]
            gram = B.T @ B / n + self.ridge * np.eye(B.shape[1])
            new = np.zeros_like(w)
            new[active] = np.linalg.lstsq(gram, B.T @ y / n - alpha * toward, rcond=None)[0]
            crossed = np.zeros(len(w), bool)
            crossed[active] = new[active] * toward < 0
            if alpha == 0:
                crossed &= ~np.isnan(s)  # without a penalty a free coefficient may change its sign
            if crossed.any():  # the sign was wrong: leave those out, and solve again
                active = active & ~crossed
                w = np.where(active, w, 0.0)
                continue
            w = new
            violation = self._violation(A, y, s, w, alpha)
            if violation < lowest:
                best, lowest = w, violation
            slope = self._slope(A, y, w)
            gain = np.where(active, -np.inf, np.where(np.isnan(s), np.abs(slope), slope * np.nan_to_num(s)) - alpha)
            if gain.max() <= 0:
                break
            active = active.copy()
            active[int(np.argmax(gain))] = True
        return best, lowest

    def _slope(self, A: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Descent direction of the smooth part."""
        return A.T @ (y - A @ w) / len(A) - self.ridge * w

    def _violation(self, A: np.ndarray, y: np.ndarray, s: np.ndarray, w: np.ndarray, alpha: float) -> float:
        slope = self._slope(A, y, w)
        inactive = np.where(np.isnan(s), np.abs(slope), slope * np.nan_to_num(s)) - alpha
        wrong = np.where(w != 0, np.abs(slope - alpha * np.sign(w)), np.maximum(inactive, 0.0))
        scale = np.abs(A.T @ y).max() / len(A)
        return float(wrong.max() / scale) if scale > 0 else 0.0
