"""The bilinear model: rules of low rank, fitted by alternating exact solutions for the two sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.polynomial import Polynomial
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..._logging import warn
from ._pairs import Pairs, agreement, check_pairs, kronecker_gram, pair_products, row_space

MAX_DIRECT = 2000  # largest number of unknowns of one side for which the normal equations are formed
MAX_SUMMED = 5e7  # largest number of stored sums of products of genes, see _Side


class BilinearModel(BaseEstimator):
    """Rules of low rank: ``B ~ (X A)(Y B)'``, where a few common axes summarise the genes of either side.

    Minimises ``sum_ij c_ij (b_ij - x_i' O y_j)^2 + alpha |O|`` over rules O = A B' of rank ``n_components``, where
    ``|O|`` is one of two penalties:

    * ``norm="nuclear"``: the sum of the singular values of O. It equals the minimum of ``(|A|^2 + |B|^2) / 2`` over all
      factorisations of O, so this is the published model for single cells, with alpha = sqrt(lambda_A lambda_B).
    * ``norm="frobenius"``: the sum of the squared entries of O. It equals the minimum of ``(|A'A|^2 + |B'B|^2) / 2``,
      so this is the published model for cell types, with genes from :func:`type_profiles`.

    Given B, the best A is the solution of a ridge regression, and conversely. The two are solved in turn, exactly,
    starting from the leading part of the connections in the span of the genes. After each round the solution is moved
    to the lowest point on the line through the last two. The rounds stop when the objective no longer decreases, at a
    local minimum. There may be many rules for few pairs: judge them by :func:`cross_validate`.

    Parameters
    ----------
    n_components
        Rank of the rules.
    alpha
        Penalty, 0 or more.
    norm
        ``"nuclear"`` or ``"frobenius"``.
    nonnegative
        Whether A and B must be non-negative, so that rules are attractions only. The nuclear norm is then replaced by
        ``(|A|^2 + |B|^2) / 2`` of the factors themselves.
    directed
        As in :class:`SpatialConnectomeModel`. Undirected rules need not be symmetric; their predictions are.
    max_iter
        Largest number of rounds.
    tol
        Relative decrease of the objective in one round below which the rounds stop.

    Attributes
    ----------
    pre_, post_ : ndarray or DataFrame of shapes (p, d) and (q, d)
        Factors A and B. Their columns have equal lengths in both, the strongest first. DataFrames if X is one.
    rules_ : ndarray or DataFrame of shape (p, q)
        Rules A B'.
    objective_ : ndarray of shape (``n_iter_``,)
        Objective after every round.
    n_iter_ : int
        Number of rounds.
    n_features_in_ : int
        Number of genes p.

    Raises
    ------
    ValueError
        In ``fit``, as in :class:`SpatialConnectomeModel`, or if ``n_components`` exceeds the largest possible rank.

    References
    ----------
    Qiao M. A bilinear model of gene expression and connectivity. eLife 12:RP91532 (2024). The solution and non-negative
    rules are this package's own.

    The nuclear norm as a minimum over factorisations: Srebro N, Rennie J, Jaakkola T. Maximum-margin matrix
    factorization. NeurIPS (2004).

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits.wiring import BilinearModel
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(30, 4)), rng.normal(size=(20, 3))
    >>> O = np.outer([1.0, 0, -1, 0], [0, 2.0, 0])
    >>> model = BilinearModel(1, alpha=1e-8).fit(X, X @ O @ Y.T, Y=Y)
    >>> bool(np.abs(model.rules_ - O).max() < 1e-6)
    True
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        alpha: float = 1e-6,
        norm: str = "nuclear",
        nonnegative: bool = False,
        directed: bool = False,
        max_iter: int = 500,
        tol: float = 1e-8,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.norm = norm
        self.nonnegative = nonnegative
        self.directed = directed
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, B: Any, *, Y: Any = None, contact: Any = None) -> BilinearModel:
        """Fit rules to connections.

        Parameters
        ----------
        X
            ``(n, p)`` genes of the presynaptic neurons or types.
        B
            ``(n, m)`` connections, 0 without contact.
        Y
            ``(m, q)`` genes of the postsynaptic neurons or types; None if they are the same.
        contact
            ``(n, m)``: 1 where they touch, or weights of the squared errors; None if all pairs touch. If it is a sparse
            matrix, time and memory grow with the number of pairs in contact, and B may be sparse too.

        Returns
        -------
        BilinearModel
            The fitted model itself.
        """
        return self._fit(check_pairs(X, B, Y, contact, directed=self.directed))

    def predict(self, X: Any, Y: Any = None) -> np.ndarray:
        """Predict connections.

        Parameters
        ----------
        X
            ``(n, p)`` genes of the presynaptic neurons or types.
        Y
            ``(m, q)`` genes of the postsynaptic ones; None if they are the same.

        Returns
        -------
        ndarray of shape (n, m)
            Predicted connections, in units of B.
        """
        check_is_fitted(self)
        X = np.asarray(X, dtype=float)
        Y = X if Y is None else np.asarray(Y, dtype=float)
        found = (X @ np.asarray(self.pre_)) @ (Y @ np.asarray(self.post_)).T
        return (found + found.T) / 2 if self.undirected_ else found

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

    @property
    def rules_(self) -> np.ndarray | pd.DataFrame:
        """Rules A B', ``(p, q)``."""
        return self.pre_ @ self.post_.T

    def _fit(self, pairs: Pairs) -> BilinearModel:
        if self.norm not in ("nuclear", "frobenius"):
            raise ValueError(f"norm={self.norm!r} is unknown; choose 'nuclear' or 'frobenius'.")
        if not self.alpha >= 0:
            raise ValueError(f"alpha={self.alpha} must not be negative.")
        # With more genes than neurons, the factors are fitted in coordinates of the row space of the genes. A bound on
        # the weights of genes is not a bound on these coordinates, so non-negative factors are fitted as they are.
        (u, v), (s, t) = ((x, np.eye(x.shape[1])) if self.nonnegative else row_space(x) for x in (pairs.X, pairs.Y))
        largest = min(u.shape[1], s.shape[1])
        if not 1 <= self.n_components <= largest:
            raise ValueError(f"n_components={self.n_components} must lie between 1 and {largest}, the largest rank.")
        # the same problem seen from both sides: B is X A (Y B)', and its transpose is Y B (X A)'
        sides = _Side(u, pairs), _Side(s, pairs, mirrored=True)
        a, b = _start(sides[0], s, self.n_components)
        if self.nonnegative:
            a, b = np.abs(a), np.abs(b)
        losses: list[float] = []
        for _ in range(self.max_iter):
            before = self._balanced(a, b)
            a, b = self._round(sides, *before)
            if not self.nonnegative:
                a, b = self._extended(sides[0], s, before, self._balanced(a, b))
            losses.append(self._objective(sides[0], s, a, b))
            if len(losses) > 1 and losses[-2] - losses[-1] <= self.tol * losses[-2]:
                break
        else:
            warn(f"the bilinear model has not converged after {self.max_iter} rounds; raise max_iter or alpha.")
        a, b = self._balanced(v @ a, t @ b)
        named = not isinstance(pairs.genes[0], pd.RangeIndex)
        self.pre_ = pd.DataFrame(a, index=pairs.genes[0]) if named else a
        self.post_ = pd.DataFrame(b, index=pairs.genes[1]) if named else b
        self.objective_, self.n_iter_ = np.array(losses), len(losses)
        self.n_features_in_, self.undirected_ = pairs.X.shape[1], pairs.undirected
        return self

    def _at(self, pairs: Pairs) -> np.ndarray:
        """Predictions for the pairs in contact."""
        a, b = pairs.X @ np.asarray(self.pre_), pairs.Y @ np.asarray(self.post_)
        return (pairs.at(a, b) + pairs.at(b, a)) / 2 if self.undirected_ else pairs.at(a, b)

    def _round(self, sides: tuple[_Side, _Side], a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One round: A given B, then B given A."""
        a, b = self._prepared(a, b)
        a = sides[0].solve(sides[1].X @ b, self._penalty(b), a, nonnegative=self.nonnegative)
        b, a = self._prepared(b, a)
        b = sides[1].solve(sides[0].X @ a, self._penalty(a), b, nonnegative=self.nonnegative)
        return a, b

    def _extended(
        self, side: _Side, s: np.ndarray, old: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The lowest point on the line through two solutions, along which the objective is a polynomial of degree four.

        Alternating solutions converge slowly along narrow valleys; this step follows the valley.
        """
        # residual and rules along the line are polynomials of degree two in t, so their squares have degree four
        (a, b), (da, db) = old, (new[0] - old[0], new[1] - old[1])
        fits = [f(side.X @ a, side.X @ da, s @ b, s @ db, side.pairs.at) for f in _LINE]
        rest = [side.pairs.b - fits[0], -fits[1], -fits[2]]
        loss = _square(rest, side.pairs.c)
        if self.norm == "frobenius":
            loss = loss + self.alpha * _square([f(a, da, b, db, _outer) for f in _LINE], 1.0)
        else:
            # (|A|^2 + |B|^2) / 2 bounds the nuclear norm from above and equals it at the balanced old solution
            sizes = [np.sum(f**2) + np.sum(g**2) for f, g in (old, (da, db))]
            loss = loss + self.alpha / 2 * Polynomial([sizes[0], 2 * (np.sum(a * da) + np.sum(b * db)), sizes[1]])
        stops = loss.deriv().roots()  # t = 1, the new solution, is a candidate too, so the step can only lower the loss
        best = min([1.0, *stops[np.abs(stops.imag) < 1e-9].real], key=loss)
        return a + best * da, b + best * db

    def _prepared(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same rules, factored so that the solution for the first factor lowers the objective most.

        With the Frobenius norm the second factor is made orthonormal: the penalty of the first is then |A|^2.
        """
        if self.nonnegative or self.norm == "nuclear":
            return self._balanced(a, b)
        q, r = np.linalg.qr(b)
        return a @ r.T, q

    def _penalty(self, other: np.ndarray) -> np.ndarray:
        """R ``(d, d)`` such that, given the other factor, the penalty of a factor A is ``tr(A R A')``."""
        if self.norm == "nuclear":
            return self.alpha / 2 * np.eye(self.n_components)
        return self.alpha * (other.T @ other)

    def _balanced(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same rules with columns of equal length in both factors, strongest first.

        From the singular value decomposition U S V' of the rules, A = U S^(1/2) and B = V S^(1/2): this factorisation
        attains the minimum of ``(|A|^2 + |B|^2) / 2``, the nuclear norm. Non-negative factors are only rescaled.
        """
        if self.nonnegative:
            size = np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0)
            strength = np.sqrt(size[0] * size[1])
            order = np.argsort(-strength, kind="stable")
            a, b = (
                f * np.divide(strength, n, out=np.zeros_like(n), where=n > 0) for f, n in zip((a, b), size, strict=True)
            )
            return a[:, order], b[:, order]
        (qa, ra), (qb, rb) = np.linalg.qr(a), np.linalg.qr(b)  # the decomposition of d x d instead of p x q numbers
        u, s, vt = np.linalg.svd(ra @ rb.T)
        a, b = qa @ u * np.sqrt(s), qb @ vt.T * np.sqrt(s)
        turn = np.sign(a[np.abs(a).argmax(axis=0), np.arange(len(s))])  # the largest entry of A becomes positive
        return a * np.where(turn == 0, 1, turn), b * np.where(turn == 0, 1, turn)

    def _objective(self, side: _Side, s: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        error = float(np.sum(side.pairs.c * (side.pairs.b - side.pairs.at(side.X @ a, s @ b)) ** 2))
        if self.norm == "frobenius":
            return error + self.alpha * float(np.sum((a.T @ a) * (b.T @ b)))
        a, b = self._balanced(a, b)
        return error + self.alpha / 2 * float(np.sum(a**2) + np.sum(b**2))


def _outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b.T


# (a + t da)(b + t db)' = the sum of t^k times the k-th of these, with `product` as the product of two factors
_LINE = (
    lambda a, da, b, db, product: product(a, b),
    lambda a, da, b, db, product: product(a, db) + product(da, b),
    lambda a, da, b, db, product: product(da, db),
)


def _square(terms: list[np.ndarray], weights: np.ndarray | float) -> Polynomial:
    """Weighted sum of squares of ``sum_k t^k terms[k]``, a polynomial in t."""
    coefficients = np.zeros(2 * len(terms) - 1)
    for i, f in enumerate(terms):
        for j, g in enumerate(terms):
            coefficients[i + j] += np.sum(weights * f * g)
    return Polynomial(coefficients)


class _Side:
    """One side of the bilinear model: least squares for its factor, given the factor of the other side.

    The normal equations need ``sum_ij c_ij (x_i kron u_j)(x_i kron u_j)'`` for u = Y B, which changes in every round.
    The part that does not change, products of genes summed over contacts, is stored if it is not too large.
    """

    def __init__(self, X: np.ndarray, pairs: Pairs, *, mirrored: bool = False) -> None:
        self.X, self.pairs, self.mirrored = X, pairs, mirrored
        self.C, self.linked = self._matrix(pairs.c), self._matrix(pairs.c * pairs.b)
        self.pull = (self.linked.T @ X).T
        self.direct = X.shape[1] ** 2 * self.C.shape[1] <= MAX_SUMMED
        self.summed = (self.C.T @ pair_products(X)).T if self.direct else None

    def _matrix(self, values: np.ndarray) -> Any:
        """Values of the pairs as a matrix, with this side in the rows."""
        found = self.pairs.matrix(values)
        return found.T if self.mirrored else found

    def solve(self, other: np.ndarray, penalty: np.ndarray, start: np.ndarray, *, nonnegative: bool) -> np.ndarray:
        """Minimise ``sum_ij c_ij (b_ij - x_i' A u_j)^2 + tr(A R A')`` over A ``(p, d)``.

        Parameters
        ----------
        other
            ``(m, d)``, the rows u_j.
        penalty
            R ``(d, d)``.
        start
            ``(p, d)``, start of the iterative solution.
        nonnegative
            Whether A must be non-negative.
        """
        shape = (self.X.shape[1], other.shape[1])
        pull = (self.pull @ other).ravel()
        if (self.direct and start.size <= MAX_DIRECT) or nonnegative:
            gram = kronecker_gram(self.X, other, self.C, summed=self.summed)
            gram += np.kron(np.eye(shape[0]), penalty)  # tr(A R A') for A flattened by rows
            if nonnegative:
                return _nonnegative(gram, pull).reshape(shape)
            try:
                return cho_solve(cho_factor(gram), pull).reshape(shape)
            except np.linalg.LinAlgError:  # singular: no penalty, and linearly dependent genes
                return np.linalg.lstsq(gram, pull, rcond=None)[0].reshape(shape)

        def apply(flat: np.ndarray) -> np.ndarray:
            a = flat.reshape(shape)
            sides = (other, self.X @ a) if self.mirrored else (self.X @ a, other)
            fitted = self._matrix(self.pairs.c * self.pairs.at(*sides))
            return (self.X.T @ (fitted @ other) + a @ penalty).ravel()

        # conjugate gradients, preconditioned by the diagonal of the normal equations
        diagonal = ((self.X**2).T @ (self.C @ other**2) + penalty.diagonal()).ravel()
        diagonal = np.where(diagonal > 0, diagonal, 1.0)
        size = start.size
        found, _ = cg(
            LinearOperator((size, size), matvec=apply, dtype=float), pull, x0=start.ravel(), rtol=1e-8, maxiter=size,
            M=LinearOperator((size, size), matvec=lambda r: r / diagonal, dtype=float),
        )  # fmt: skip
        return found.reshape(shape)


def _nonnegative(gram: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Minimise ``a' gram a - 2 pull' a`` over non-negative a, as ``|R a - y|^2`` with R'R = gram and R'y = pull."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > values[-1] * len(values) * np.finfo(float).eps
    root = np.sqrt(values[keep])
    return nnls(root[:, None] * vectors[:, keep].T, (vectors[:, keep].T @ pull) / root, maxiter=50 * len(pull))[0]


def _start(side: _Side, other: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Start of both factors: the best rules of rank d if all neurons touched.

    With all pairs in contact and X = U S V' on either side, the fitted connections are ``U_x U_x' B U_y U_y'``, whose
    best approximation of rank d comes from a singular value decomposition. Dividing by the singular values of the
    genes, small ones left out, turns it into rules.
    """
    (ux, sx, vx), (uy, sy, vy) = (np.linalg.svd(X, full_matrices=False) for X in (side.X, other))
    wx, wy = (np.divide(1, s, out=np.zeros_like(s), where=s > 1e-6 * s[0]) for s in (sx, sy))
    u, s, vt = np.linalg.svd(ux.T @ (side.linked @ uy))
    a, b = vx.T @ (wx[:, None] * u[:, :d] * np.sqrt(s[:d])), vy.T @ (wy[:, None] * vt[:d].T * np.sqrt(s[:d]))
    return a, b
