"""Random projections in which every column has one sign, as the synapses of a neuron have."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.random_projection import johnson_lindenstrauss_min_dim
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data


class SignConsistentProjection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Sparse random projection in which every input feature is either excitatory or inhibitory.

    Each column of the projection matrix has ``n_nonzero`` entries in random rows. All of them are
    ``+1 / sqrt(n_nonzero)`` or all are ``-1 / sqrt(n_nonzero)``, with a random sign per column. Squared lengths are
    preserved on average. As long as ``n_nonzero`` is much smaller than ``n_components``, single lengths are preserved
    almost as well as by a sparse projection without this constraint. With all columns positive they are not.

    Parameters
    ----------
    n_components
        Dimension of the output, or ``"auto"`` for the dimension that the Johnson-Lindenstrauss lemma gives for ``eps``.
    n_nonzero
        Number of non-zero entries per column.
    signs
        ``"consistent"``: one sign per column. The other two are for comparison: ``"free"`` draws a sign for every
        entry (the unconstrained sparse projection), and ``"positive"`` makes all entries positive.
    eps
        Relative distortion of squared distances for ``n_components="auto"``.
    random_state
        Seed or ``RandomState`` of the projection matrix.

    Attributes
    ----------
    components_ : csc_matrix of shape (n_components, n_features)
        The projection matrix.
    n_components_ : int
        Number of its rows.
    n_features_in_ : int
        Number of features.

    Raises
    ------
    ValueError
        In ``fit``, if ``n_components`` is neither "auto" nor a positive integer, if ``n_nonzero`` exceeds the number of
        components, or if ``signs`` is unknown.

    References
    ----------
    Allen-Zhu Z, Gelashvili R, Micali S, Shavit N. Sparse sign-consistent Johnson-Lindenstrauss matrices: compression
    with neuroscience-based constraints. PNAS 111:16872 (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import SignConsistentProjection
    >>> X = np.random.default_rng(0).normal(size=(50, 2000))
    >>> Z = SignConsistentProjection(n_components=256).fit_transform(X)
    >>> Z.shape, bool(abs((Z**2).sum() / (X**2).sum() - 1) < 0.1)
    ((50, 256), True)
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        n_nonzero: int = 4,
        signs: str = "consistent",
        eps: float = 0.2,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.n_nonzero = n_nonzero
        self.signs = signs
        self.eps = eps
        self.random_state = random_state

    def fit(self, X, y=None) -> SignConsistentProjection:
        """Draw the projection matrix.

        Parameters
        ----------
        X
            ``(n_samples, n_features)``, dense or sparse. Only the shape is used.
        y
            Ignored.

        Returns
        -------
        SignConsistentProjection
            The fitted projection itself.
        """
        X = validate_data(self, X, accept_sparse=["csr", "csc"])
        if self.signs not in ("consistent", "free", "positive"):
            raise ValueError(f"signs={self.signs!r} is unknown; choose 'consistent', 'free' or 'positive'.")
        if self.n_components == "auto":
            n_rows = int(johnson_lindenstrauss_min_dim(X.shape[0], eps=self.eps))
        elif isinstance(self.n_components, numbers.Integral) and self.n_components >= 1:
            n_rows = int(self.n_components)
        else:
            raise ValueError(f"n_components={self.n_components!r} must be 'auto' or a positive integer.")
        if not 1 <= self.n_nonzero <= n_rows:
            raise ValueError(f"n_nonzero={self.n_nonzero} must lie between 1 and the {n_rows} components.")
        rng = check_random_state(self.random_state)
        # in CSC format the rows of column j are entries j * n_nonzero to (j + 1) * n_nonzero of one flat array
        n = X.shape[1]
        rows = np.empty((n, self.n_nonzero), dtype=np.int32)
        for j in range(n):
            rows[j] = rng.choice(n_rows, self.n_nonzero, replace=False)
        if self.signs == "consistent":
            sign = np.repeat(rng.choice([-1.0, 1.0], size=n), self.n_nonzero)
        elif self.signs == "free":
            sign = rng.choice([-1.0, 1.0], size=n * self.n_nonzero)
        else:
            sign = np.ones(n * self.n_nonzero)
        pointers = np.arange(0, n * self.n_nonzero + 1, self.n_nonzero)
        self.components_ = sp.csc_matrix((sign / np.sqrt(self.n_nonzero), rows.ravel(), pointers), shape=(n_rows, n))
        self.components_.sort_indices()
        self.n_components_ = n_rows
        return self

    def transform(self, X):
        """Project data to ``n_components`` dimensions.

        Parameters
        ----------
        X
            ``(n_samples, n_features)``, dense or sparse.

        Returns
        -------
        ndarray or csr_matrix of shape (n_samples, n_components)
            Sparse if X is sparse.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        if sp.issparse(X):
            return (X @ self.components_.T).tocsr()
        return (self.components_ @ X.T).T

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
