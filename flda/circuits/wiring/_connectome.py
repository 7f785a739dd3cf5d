"""The spatial connectome model: ridge regression of connections on products of genes, for pairs in contact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import LinearOperator, cg
from scipy.stats import false_discovery_control, norm
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._linear import SignedLinear
from .._sign_mask import check_signs
from ._network import expected_connections
from ._pairs import Pairs, agreement, check_pairs, kronecker_gram, row_space, symmetric_basis

MAX_RULES = 3000  # largest number of rules for which the normal equations are formed; beyond it, conjugate gradients


class SpatialConnectomeModel(BaseEstimator):
    """Rules between genes, fitted to a connectome: B is modelled as X O Y' for pairs of neurons in contact.

    Minimises ``sum_ij c_ij (b_ij - x_i' O y_j)^2 + alpha |O|^2`` exactly. There are as many rules as products of genes,
    so the score on the fitted pairs means little; see :func:`cross_validate`.

    Parameters
    ----------
    alpha
        Ridge penalty, or ``"gcv"`` for the minimum of generalised cross-validation,
        ``|b - b_hat|^2 / trace(I - hat)^2``. Pairs of neurons are not independent, so generalised cross-validation does
        not replace :func:`cross_validate`.
    signs
        ``(p, q)`` signs of the rules: +1 (attraction only), -1 (repulsion only), 0 (no rule) or NaN (either). With
        ``alpha="gcv"`` the penalty is chosen without the signs. None leaves all rules free.
    directed
        Whether ``b_ij`` and ``b_ji`` are different connections. If False, B must be symmetric, and O is too.

    Attributes
    ----------
    rules_ : ndarray or DataFrame of shape (p, q)
        Rules O; a DataFrame if X is one.
    alpha_ : float
        The penalty.
    df_ : float
        Effective number of rules, the trace of the hat matrix. NaN with signs, and if the problem was solved
        iteratively.
    n_features_in_ : int
        Number of genes p.

    Raises
    ------
    ValueError
        In ``fit``: if names do not match or repeat, if there are connections without contact or values that are not
        finite, if B is asymmetric with ``directed=False``, if all connections are equal, or if there are too many rules
        for ``alpha="gcv"`` or signs.

    References
    ----------
    Kovács IA, Barabási DL, Barabási A-L. Uncovering the genetic blueprint of the C. elegans nervous system. PNAS
    117:33570 (2020).

    Golub GH, Heath M, Wahba G. Generalized cross-validation as a method for choosing a good ridge parameter.
    Technometrics 21:215 (1979).

    Signs, the solution without Kronecker products, and the exact moments of rules under the null are this package's
    own.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits.wiring import SpatialConnectomeModel
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(30, 3)), rng.normal(size=(20, 2))
    >>> O = np.array([[1.0, 0.0], [0.0, -2.0], [0.0, 0.0]])
    >>> model = SpatialConnectomeModel(alpha=1e-9).fit(X, X @ O @ Y.T, Y=Y)
    >>> bool(np.abs(model.rules_ - O).max() < 1e-6)
    True
    """

    def __init__(self, alpha: float | str = "gcv", *, signs: Any = None, directed: bool = False) -> None:
        self.alpha = alpha
        self.signs = signs
        self.directed = directed

    def fit(self, X: Any, B: Any, *, Y: Any = None, contact: Any = None) -> SpatialConnectomeModel:
        """Fit rules to connections.

        Parameters
        ----------
        X
            ``(n, p)`` genes of the presynaptic neurons.
        B
            ``(n, m)`` connections, 0 without contact.
        Y
            ``(m, q)`` genes of the postsynaptic neurons; None if they are the same neurons.
        contact
            ``(n, m)``: 1 where neurons touch, or weights of the squared errors; None if all pairs touch. If it is a
            sparse matrix, time and memory grow with the number of pairs in contact, and B may be sparse too.

        Returns
        -------
        SpatialConnectomeModel
            The fitted model itself.
        """
        return self._fit(check_pairs(X, B, Y, contact, directed=self.directed))

    def predict(self, X: Any, Y: Any = None) -> np.ndarray:
        """Predict connections.

        Parameters
        ----------
        X
            ``(n, p)`` genes of the presynaptic neurons.
        Y
            ``(m, q)`` genes of the postsynaptic neurons; None if they are the same neurons.

        Returns
        -------
        ndarray of shape (n, m)
            Predicted connections, in units of B.
        """
        check_is_fitted(self)
        X = np.asarray(X, dtype=float)
        return X @ np.asarray(self.rules_) @ (X if Y is None else np.asarray(Y, dtype=float)).T

    def score(self, X: Any, B: Any, *, Y: Any = None, contact: Any = None) -> float:
        """Compare predicted and given connections over pairs in contact.

        Parameters
        ----------
        X, B, Y, contact
            As in :meth:`fit`. Scores of the fitted pairs are optimistic; use others.

        Returns
        -------
        float
            Area under the ROC curve if connections are 0 or 1, else the correlation.
        """
        pairs = check_pairs(X, B, Y, contact, directed=self.directed)
        return agreement(self._at(pairs), pairs.b)

    def rule_table(self, X: Any, B: Any, *, Y: Any = None, contact: Any = None) -> pd.DataFrame:
        """Compare every rule with its distribution over random networks with the same contacts and expected degrees.

        The mean and the variance of a rule over these networks are computed exactly, not sampled. Connections are taken
        to be independent given the degrees. Those of neurons that share genes by descent, such as left and right
        homologues, are not, and p-values are then too small.

        Parameters
        ----------
        X, B, Y, contact
            The data of the fit, with connections of 0 or 1.

        Returns
        -------
        DataFrame
            One row per rule, in an undirected network one per unordered pair of genes, with the columns ``gene_pre,
            gene_post, rule, null_mean, null_sd, z, pval`` (two-sided, normal approximation) and ``pval_adj``
            (Benjamini-Hochberg).

        Raises
        ------
        ValueError
            If the model has signs, if connections are not 0 or 1, or if there are more than 3,000 rules.
        """
        check_is_fitted(self)
        if self.signs is not None:
            raise ValueError("rule_table needs a model without signs; fit one with signs=None.")
        pairs = check_pairs(X, B, Y, contact, directed=self.directed)
        probability = expected_connections(pairs)
        p, q = pairs.X.shape[1], pairs.Y.shape[1]
        if p * q > MAX_RULES:
            raise ValueError(f"{p * q} rules are more than {MAX_RULES}; use differential_expression, or fewer genes.")
        # Rules are a linear function of the connections, o = F b with F = (K'CK + alpha I)^-1 K'C and K the matrix with
        # the rows x_i kron y_j. With independent b_ij their mean is F p and their covariance F diag(v) F'. In an
        # undirected network all this holds in coordinates of the symmetric matrices.
        basis = symmetric_basis(p) if pairs.undirected else np.eye(p * q)
        gram = basis.T @ kronecker_gram(pairs.X, pairs.Y, pairs.matrix(pairs.c)) @ basis
        factor = cho_factor(gram + self.alpha_ * np.eye(len(gram)))
        expected = pairs.X.T @ (pairs.matrix(pairs.c * probability) @ pairs.Y)
        mean = cho_solve(factor, basis.T @ expected.ravel())
        spread = pairs.c**2 * probability * (1 - probability)
        if pairs.undirected:
            # a connection is drawn once and enters at (i, j) and (j, i), so its variance counts twice; not so on the
            # diagonal
            spread = np.where(pairs.i == pairs.j, spread, 2 * spread)
        inner = basis.T @ kronecker_gram(pairs.X, pairs.Y, pairs.matrix(spread)) @ basis
        solved = cho_solve(factor, basis.T)
        mean = basis @ mean
        sd = np.sqrt(np.maximum(np.einsum("ka,kl,la->a", solved, inner, solved), 0))
        rule = np.asarray(self.rules_).ravel()
        shown = np.flatnonzero((np.triu(np.ones((p, q))) > 0).ravel()) if pairs.undirected else np.arange(p * q)
        with np.errstate(invalid="ignore", divide="ignore"):
            z = np.where(sd > 0, (rule - mean) / sd, 0.0)
        pval = 2 * norm.sf(np.abs(z[shown]))
        row, col = np.divmod(shown, q)
        return pd.DataFrame(
            {
                "gene_pre": np.asarray(pairs.genes[0])[row], "gene_post": np.asarray(pairs.genes[1])[col],
                "rule": rule[shown], "null_mean": mean[shown], "null_sd": sd[shown], "z": z[shown],
                "pval": pval, "pval_adj": false_discovery_control(pval),
            }
        )  # fmt: skip

    def _fit(self, pairs: Pairs) -> SpatialConnectomeModel:
        if isinstance(self.alpha, str) and self.alpha != "gcv":
            raise ValueError(f"alpha={self.alpha!r} is not valid; pass a number or 'gcv'.")
        if not isinstance(self.alpha, str) and not self.alpha >= 0:
            raise ValueError(f"alpha={self.alpha} must not be negative.")
        u, v = row_space(pairs.X)
        s, t = (u, v) if pairs.Y is pairs.X else row_space(pairs.Y)
        n_rules = u.shape[1] * s.shape[1]
        if n_rules > MAX_RULES:
            if isinstance(self.alpha, str) or self.signs is not None:
                raise ValueError(
                    f"{n_rules} rules are too many for alpha='gcv' and for signs (at most {MAX_RULES}); use fewer "
                    "genes, FLDA axes or principal components instead of genes, BilinearModel, or a number as alpha."
                )
            rules = _conjugate_gradients(u, s, pairs, float(self.alpha))
            self.alpha_, self.df_ = float(self.alpha), np.nan
        else:
            rules = self._factored(u, s, pairs)
        rules = v @ rules @ t.T  # from coordinates of the row space to genes
        if self.signs is not None:
            rules, self.df_ = _signed(pairs, self.alpha_, self.signs), np.nan
        if pairs.undirected:
            rules = (rules + rules.T) / 2
        named = not isinstance(pairs.genes[0], pd.RangeIndex)
        self.rules_ = pd.DataFrame(rules, index=pairs.genes[0], columns=pairs.genes[1]) if named else rules
        self.n_features_in_ = pairs.X.shape[1]
        return self

    def _at(self, pairs: Pairs) -> np.ndarray:
        """Predictions for the pairs in contact."""
        return pairs.at(pairs.X @ np.asarray(self.rules_), pairs.Y)

    def _factored(self, u: np.ndarray, s: np.ndarray, pairs: Pairs) -> np.ndarray:
        """Rules from the eigenvectors of the normal equations; sets ``alpha_`` and ``df_``."""
        gram = kronecker_gram(u, s, pairs.matrix(pairs.c))
        pull = (u.T @ (pairs.matrix(pairs.c * pairs.b) @ s)).ravel()
        values, vectors = np.linalg.eigh(gram)
        values = np.maximum(values, 0)
        turned = vectors.T @ pull
        total, n = float(np.sum(pairs.c * pairs.b**2)), len(pairs.i)
        self.alpha_ = _gcv(values, turned, total, n) if isinstance(self.alpha, str) else float(self.alpha)
        floor = values[-1] * len(values) * np.finfo(float).eps
        kept = values > floor if self.alpha_ == 0 else values >= 0  # without a penalty: the solution of least norm
        shrunk = np.divide(1, values + self.alpha_, out=np.zeros_like(values), where=kept)
        self.df_ = float(np.sum(values * shrunk))
        return (vectors @ (shrunk * turned)).reshape(u.shape[1], s.shape[1])


def _gcv(values: np.ndarray, turned: np.ndarray, total: float, n: int) -> float:
    """Penalty that minimises generalised cross-validation (Golub, Heath and Wahba, 1979).

    Parameters
    ----------
    values, turned
        Eigenvalues l of the normal equations, and their right-hand side z in the coordinates of the eigenvectors.
    total, n
        Sum of the squared connections, and number of pairs.
    """
    on = values > values[-1] * len(values) * np.finfo(float).eps
    values, gain = values[on], turned[on] ** 2

    def criterion(log_alpha: float) -> float:
        alpha = np.exp(log_alpha)
        # |b - b_hat|^2 = |b|^2 - sum z^2 (l + 2 alpha) / (l + alpha)^2,  trace(I - hat) = n - sum l / (l + alpha)
        residual = total - np.sum(gain * (values + 2 * alpha) / (values + alpha) ** 2)
        return np.log(max(residual, 1e-300)) - 2 * np.log(n - np.sum(values / (values + alpha)))

    # the criterion can have several minima: a grid finds the lowest, a line search refines it
    grid = np.log(values[-1]) + np.log(10) * np.linspace(-12, 4, 129)
    losses = [criterion(g) for g in grid]
    best = int(np.argmin(losses))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(np.exp(minimize_scalar(criterion, bounds=around, method="bounded", options={"xatol": 1e-6}).x))


def _conjugate_gradients(u: np.ndarray, s: np.ndarray, pairs: Pairs, alpha: float) -> np.ndarray:
    """Rules by conjugate gradients, which need only products with X, C and Y."""
    shape = (u.shape[1], s.shape[1])

    def apply(flat: np.ndarray) -> np.ndarray:
        o = flat.reshape(shape)
        fitted = pairs.c * pairs.at(u @ o, s)
        return (u.T @ (pairs.matrix(fitted) @ s) + alpha * o).ravel()

    size = shape[0] * shape[1]
    diagonal = ((u**2).T @ (pairs.matrix(pairs.c) @ s**2) + alpha).ravel()
    # preconditioned by the diagonal of the normal equations
    scale = LinearOperator((size, size), matvec=lambda r: r / diagonal, dtype=float)
    operator = LinearOperator((size, size), matvec=apply, dtype=float)
    pull = (u.T @ (pairs.matrix(pairs.c * pairs.b) @ s)).ravel()
    rules, failed = cg(operator, pull, rtol=1e-10, maxiter=10 * size, M=scale)
    if failed:
        raise ValueError(f"the {size} rules did not converge with alpha={alpha:g}; raise alpha, or use fewer genes.")
    return rules.reshape(shape)


def _signed(pairs: Pairs, alpha: float, signs: Any) -> np.ndarray:
    """Rules under signs.

    The quadratic form o'Go - 2 z'o has the same minimum as |Ao - y|^2 with A'A = G and A'y = z, so that the normal
    equations become a small regression for :class:`SignedLinear`.
    """
    p, q = pairs.X.shape[1], pairs.Y.shape[1]
    wanted = check_signs(signs, (p, q), what="signs of the rules").ravel()
    if pairs.undirected:
        mirror = wanted.reshape(p, q).T.ravel()
        if not np.array_equal(wanted, mirror, equal_nan=True):
            raise ValueError("signs of the rules are not symmetric; make them symmetric, or set directed=True.")
    gram = kronecker_gram(pairs.X, pairs.Y, pairs.matrix(pairs.c)) + alpha * np.eye(p * q)
    values, vectors = np.linalg.eigh(gram)
    keep = values > values[-1] * len(values) * np.finfo(float).eps
    root = np.sqrt(values[keep])
    A = root[:, None] * vectors[:, keep].T
    pull = pairs.X.T @ (pairs.matrix(pairs.c * pairs.b) @ pairs.Y)
    y = (vectors[:, keep].T @ pull.ravel()) / root
    return SignedLinear(wanted, fit_intercept=False).fit(A, y).coef_.reshape(p, q)
