"""Measures of single genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2

from .._design.design import Design
from .._design.effects import SEPARATOR
from .._error.weights import weighted_contrasts

SIGNIFICANT = 1e-3  # level at which the F of another effect can make a gene cancelling
OWN = 0.05  # level at which the F of the own effect shows that the gene takes part in the effect


def specificity(ratios: pd.DataFrame, effect: str, df: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the share of one effect in what each gene varies with, and the kind of the gene.

    Parameters
    ----------
    ratios
        F ratio of every gene (rows) for every effect (columns).
    effect
        Name of the effect.
    df
        Effect name -> degrees of freedom.

    Returns
    -------
    share
        ``max(F - 1, 0)`` of the effect over its sum over all effects, (p,), between 0 and 1; an F of 1 is noise. NaN if
        no F exceeds 1.
    kind
        ``"cancelling"`` if another effect has a larger F that is significant at SIGNIFICANT. Such a gene varies more
        with another effect, and helps an axis by cancelling that effect in other genes. ``"interaction-typical"`` if
        the gene has an F for the effect that is significant at OWN, but less than half of its signal, and significant
        effects that contain this effect or are contained in it. So behaves a gene that is expressed in one group only,
        whose signal is spread over the factors and their interaction alike. Such related effects make a gene cancelling
        only if its own F is not significant. ``"pure"`` otherwise.

    Examples
    --------
    >>> import pandas as pd
    >>> ratios = pd.DataFrame({"A": [9.0, 30.0, 40.0], "B": [1.0, 60.0, 40.0], "A:B": [1.0, 1.0, 38.0]})
    >>> df = {"A": 1, "B": 1, "A:B": 1}
    >>> specificity(ratios, "A", df)[1].tolist(), specificity(ratios, "A:B", df)[1].tolist()[2]
    (['pure', 'cancelling', 'interaction-typical'], 'interaction-typical')
    """
    signal = (ratios - 1).clip(lower=0)
    total = signal.sum(axis=1).to_numpy()
    share = np.asarray(np.divide(signal[effect], total, out=np.full(len(total), np.nan), where=total > 0))
    names = [e for e in ratios if e != effect]
    own, others = ratios[effect].fillna(0).to_numpy()[:, None], ratios[names].to_numpy()
    clear = np.column_stack([significant(ratios[e], df[e]) for e in names]) if names else np.zeros((len(own), 0), bool)
    factors = {*effect.split(SEPARATOR)}
    related = np.array([factors < {*e.split(SEPARATOR)} or factors > {*e.split(SEPARATOR)} for e in names], dtype=bool)
    takes_part = significant(ratios[effect], df[effect], OWN)
    cancelling = ((others > own * (1 + 1e-9)) & clear & ~(related & takes_part[:, None])).any(axis=1)
    spread = takes_part & (share < 0.5) & (clear & related).any(axis=1)
    return share, np.where(cancelling, "cancelling", np.where(spread, "interaction-typical", "pure"))


def significant(ratios: np.ndarray | pd.Series, df: int, level: float = SIGNIFICANT) -> np.ndarray:
    """Tell which F ratios are too large for chance, (p,), taking ``df F`` to be chi-squared.

    That holds with many cells or donors; :func:`flda.inference.effect_tests` gives p-values for any number.

    Parameters
    ----------
    ratios
        F ratio of every gene, (p,); NaN is not significant.
    df
        Degrees of freedom of the effect.
    level
        The level.

    Examples
    --------
    >>> significant(np.array([3.0, 12.0, np.nan]), 1).tolist()
    [False, True, False]
    """
    return np.asarray(np.asarray(ratios, dtype=float) > chi2.isf(level, df) / df)


def patterns(
    means: np.ndarray, design: Design, effects: Sequence[str], axes: np.ndarray, *, sd: np.ndarray
) -> np.ndarray:
    """Compute the correlation of every gene with every axis, as far as both vary with the effect of the axis.

    A loading says how much an axis uses a gene; a pattern says how much the gene varies with the axis (Haufe et al.
    2014), which is also called a structure coefficient. With f_S(x) the fitted values of effect S in the groups (by the
    weighted least squares of the F ratios), ``Sigma_S`` the covariance of these values over groups and s_j the
    within-group standard deviation of gene j, ::

        pattern_j = (Sigma_S u)_j / sqrt((Sigma_S,jj + s_j^2) u' Sigma_S u)

    This is the correlation of the gene with the effect along the axis over cells of groups of equal size that differ in
    nothing but the effect. It lies between -1 and 1. For an effect with one degree of freedom its square is the share
    of the effect in the variance of the gene, other effects left out (partial eta squared).

    Parameters
    ----------
    means
        Group means, C x p.
    design
        The design of the groups.
    effects
        Name of the effect of every axis.
    axes
        The axes u, k x p.
    sd
        Within-group standard deviation of every gene, (p,).

    Returns
    -------
    The patterns, k x p. Zero for a gene that does not vary.

    References
    ----------
    Haufe S, Meinecke F, Goergen K, et al. On the interpretation of weight vectors of linear models in multivariate
    neuroimaging. NeuroImage 87:96 (2014).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from flda import FLDA
    >>> y = pd.DataFrame({"A": list("ppqq") * 5, "B": list("rsrs") * 5})
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> X[:, 1] += 3 * (y["A"] == "q") + 5 * (y["B"] == "s")
    >>> model = FLDA(shrinkage=0.5).fit(X, y)
    >>> found = patterns(model.means_, model.design_, model.axes_["effect"], model.components_, sd=model.within_sd_)
    >>> int(np.abs(found[0]).argmax()), bool(np.allclose(found, model.patterns_))
    (1, True)
    """
    contrasts = weighted_contrasts(design, means, sd**2, np.ones(len(means)))
    out, rounding = np.zeros(axes.shape), 1e-12 * np.abs(means).max(axis=0)
    names = np.asarray(effects)
    for name in dict.fromkeys(names):
        own, rows = design.effect(name), np.flatnonzero(names == name)
        f = design.coding(own) @ (contrasts[own] @ means)
        f -= f.mean(axis=0)
        along = f @ axes[rows].T  # fitted values on the axes of the effect, C x k
        size = np.sqrt(np.mean(along**2, axis=0))
        varies, gene = size > 0, np.sqrt(np.mean(f**2, axis=0) + sd**2)
        found = along[:, varies].T @ f / len(f) / size[varies, None]
        out[rows[varies]] = np.divide(found, gene, out=np.zeros_like(found), where=gene > rounding)
    return out


def largest_signs(standardised: np.ndarray) -> np.ndarray:
    """Return the sign, +1 or -1, that makes the largest standardised loading of each axis positive.

    Parameters
    ----------
    standardised
        Standardised loadings, p x k. If several have the same largest absolute value, the first one counts.
    """
    largest = np.abs(standardised).argmax(axis=0)
    return np.where(standardised[largest, np.arange(standardised.shape[1])] < 0, -1.0, 1.0)
