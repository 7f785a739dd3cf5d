"""What the axes of an effect maximise, as small matrices over the groups.

With u an axis, G the group means (C x p) and B_T the contrasts of effect T, the scatter of T along u is
``u' M_T u = |B_T G u|^2 / df_T``. The ratio of effect S is ::

    u' M_S u / u' (M_e(g) + sum_{T != S} lambda_T M_T + lambda_0 M_lof) u

so all that the effects S does not want adds to the noise. M_lof is what no effect of the fit explains of the group
means. The difference of the paper is ``u' (M_S - sum lambda_T M_T) u / u' M_e(g) u``. Against the axis of a named
contrast count the effects that cannot contribute to it, and a named contrast counts against no axis.

Three refinements of the ratio need ``K = G M_e(g)^-1 G'``, the inner products of the group means, and the noise
``d = tr(M_e(g)^-1 M_e)`` that one cell has in this metric; a group of n_c cells has the noise d / n_c:

* Effects by weighted least squares. The group means are the effects plus a lack of fit with variance tau2 plus noise
  with variance 1 / n_c, in units of d. So group c has the weight ``w_c = 1 / (tau2 + 1 / n_c)``, and tau2 follows from
  the weighted lack of fit by moments (DerSimonian and Laird, Control. Clin. Trials 7:177, 1986).
* Reliability. With ``E = B_S K B_S'`` and its noise ``N = d B_S diag(1 / n) B_S'``, the scatter of S is weighted by
  ``(I - E^-1/2 N E^-1/2)_+``: a contrast that is all noise counts nothing.
* Lack of fit, with the weight lambda_0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import eigh, qr

from .._design.design import Design
from .._design.effects import Effect
from .._design.table import Table

NOISELESS = 1e12  # tau2 of data without noise, so large that the numbers of cells do not matter
LEAST_RELIABILITY = 0.01  # weight of a contrast that is all noise, so that every effect still has its axes


@dataclass(frozen=True)
class Terms:
    """The objective of one effect: rows a, so that ``|a G u|^2`` are the scatters along an axis u.

    Attributes
    ----------
    contrasts
        The contrasts B_S of the effect, df_S x C, with the weights of the groups.
    own
        Rows of the effect itself, df_S x C: the contrasts over the root of df_S, times their reliability.
    against
        Rows of all that counts against the axis, each times the root of its weight, m x C.
    nulled
        Rows of every effect with an infinite penalty.
    ratio
        Whether ``against`` adds to the denominator, or is subtracted from the numerator.
    """

    contrasts: np.ndarray
    own: np.ndarray
    against: np.ndarray
    nulled: Sequence[np.ndarray] = ()
    ratio: bool = True


@dataclass(frozen=True)
class Noise:
    """The noise of the group means in the metric M_e(g)^-1.

    Attributes
    ----------
    trace
        ``d = tr(M_e(g)^-1 M_e)``, the noise of a single cell.
    counts
        Number of independent cells whose noise each group mean has, (C,).
    """

    trace: float
    counts: np.ndarray


@dataclass(frozen=True)
class Objective:
    """How effects enter the numerator and the denominator.

    Attributes
    ----------
    kind
        ``"ratio"`` or ``"difference"``.
    penalties
        Effect -> lambda_T, for every effect in the fit.
    lack_of_fit
        lambda_0.
    weights
        ``"random"`` for the weights w_c above, or ``"equal"``.
    reliability
        Whether contrasts are weighted by their reliability.
    """

    kind: str
    penalties: Mapping[Effect, float] = field(default_factory=dict)
    lack_of_fit: float = 0.0
    weights: str = "equal"
    reliability: bool = False

    def terms(self, design: Design, K: np.ndarray | None = None, noise: Noise | None = None) -> dict[Effect, Terms]:
        """Return the objective of every effect with axes.

        Parameters
        ----------
        design
            The groups and effects.
        K, noise
            Inner products of the group means, C x C, and their noise. Only random weights and reliability need them.
            With covariates, whose slopes are q further rows of G, they are (C + q) x (C + q), and so are the columns of
            all rows that are returned.
        """
        ratio, C = self.kind == "ratio", design.n_groups
        K = None if K is None else K[:C, :C]
        contrasts, rest, w = design.contrasts, np.empty((0, design.n_groups)), None
        # fitted means, with the noise of what the effects leave, have no lack of fit
        if ratio and design.unit_model is None and design.table.df_left(list(contrasts)):
            contrasts, rest, w = self._fit(design, K, noise)
        halves = {e: b / np.sqrt(len(b)) for e, b in contrasts.items()}  # M_T = |halves[T] G|^2
        of_covariates = []
        if design.covariates is not None:
            for e in design.covariates.columns:
                row = design.covariates.rows(e)
                of_covariates.append((np.pad(row, ((0, 0), (C, 0))) / np.sqrt(len(row)), self.penalties[e]))
            q = design.covariates.values.shape[1]
            rest, halves = _wider(rest, q), {e: _wider(h, q) for e, h in halves.items()}
        out = {}
        for effect in design.effects:
            rows = design.rows_by(effect, w) if effect in design.named else contrasts[effect]
            own = rows / np.sqrt(len(rows))
            if ratio and self.reliability:
                assert K is not None
                assert noise is not None
                own = reliability_root(own, K, noise.trace * design.noise_of_means(noise.counts)) @ own
            others = [*((halves[e], self.penalties[e]) for e in design.others(effect)), *of_covariates]
            against = np.vstack([rest, *(np.sqrt(penalty) * h for h, penalty in others if penalty < np.inf)])
            columns = against.shape[1]
            if len(against) > columns:  # so many rows are enough for the same squares
                against = qr(against, mode="r")[0][:columns]
            nulled = [h for h, penalty in others if np.isinf(penalty)]
            out[effect] = Terms(_wider(rows, columns - C), _wider(own, columns - C), against, nulled, ratio)
        return out

    def _fit(
        self, design: Design, K: np.ndarray | None, noise: Noise | None
    ) -> tuple[dict[Effect, np.ndarray], np.ndarray, np.ndarray | None]:
        """Return the contrasts of all effects, rows whose squares add up to ``lambda_0 M_lof``, and the weights."""
        table, effects, C = design.table, list(design.contrasts), design.n_groups
        weights = None
        if self.weights == "random":
            assert K is not None
            assert noise is not None
            weights = 1 / (lack_of_fit_variance(table, effects, K, noise) + 1 / noise.counts)
        left = np.eye(C) - table.model_matrix(effects) @ table.coefficients(effects, weights)
        return table.contrasts(effects, weights), np.sqrt(self.lack_of_fit / table.df_left(effects)) * left, weights


def _wider(rows: np.ndarray, q: int) -> np.ndarray:
    """Add q columns of zeros, for the slopes of covariates."""
    return np.pad(rows, ((0, 0), (0, q)))


def lack_of_fit_variance(table: Table, effects: Sequence[Effect], K: np.ndarray, noise: Noise) -> float:
    """Estimate tau2, the variance of what some effects leave of the group means, in units of the noise of a cell.

    By moments (DerSimonian and Laird): with ``W = diag(n)``, the model matrix D and the coefficients
    ``B = (D' W D)^+ D' W``, the weighted squares of the lack of fit have the expectation
    ``d (C - m) + d tau2 tr(W - W D B)``. A negative estimate is zero. Without any noise all groups weigh the same.
    """
    if noise.trace <= 0:
        return NOISELESS
    W = np.diag(noise.counts.astype(float))
    left = W - W @ table.model_matrix(effects) @ table.coefficients(effects, noise.counts)
    return max(float((np.sum(left * K) / noise.trace - table.df_left(effects)) / np.trace(left)), 0.0)


def reliability_root(own: np.ndarray, K: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the root of ``(I - E^-1/2 N E^-1/2)_+`` for the contrasts of an effect, df x df.

    ``noise`` is the covariance of the group means in the metric of K, C x C.
    """
    E = own @ K @ own.T
    N = own @ noise @ own.T
    values, vectors = eigh((E + E.T) / 2)
    # group means that do not differ at all along a contrast are not reliable either
    keep = values > 1e-12 * values[-1]
    half = vectors[:, keep] / np.sqrt(values[keep]) @ vectors[:, keep].T
    shares, turn = eigh(half @ N @ half)
    return (turn * np.sqrt(np.maximum(1 - shares, LEAST_RELIABILITY))) @ turn.T
