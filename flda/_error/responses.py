"""Blocks whose response to an effect is shared by several of their samples.

A fit with blocks, such as donors, whose noise is what the effects leave takes the samples of a block for independent,
apart from its mean. If blocks respond differently to an effect S, the samples of one block under one level of S share
its response: the interaction of block and S is then larger than the other noise, and is what S should be judged by.
Labels say whether samples of a block share levels of S. The data say whether the interaction is larger: with U its
columns that the model does not have (orthonormal, k of them) and r the residuals, its mean square is ``|U'r|^2 / k``,
and that of the rest ``(|r|^2 - |U'r|^2) / (N - q - k)``. Both are averaged over genes in units of their variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import f as f_distribution

from .._design.design import Design
from .._design.effects import Effect
from .._logging import warn

LARGER = 0.05  # p-value up to which a mean square is larger than that of the rest; of one gene, so careful with many
ROUNDING = 1e-8  # share of a column that is a rounding error


class Shared(NamedTuple):
    """What the data say of one block and one effect.

    Attributes
    ----------
    differing
        Factors in which the samples of a block that share levels of the effect differ.
    ratio
        Mean square of the interaction of block and effect over that of the other residuals.
    pval
        Probability of so large a ratio if there were one gene, with normal errors and no such interaction.
    """

    differing: list[str]
    ratio: float
    pval: float


def shared_responses(effect: Effect, block: str, design: Design, rows: np.ndarray) -> Shared | None:
    """Compare the interaction of a block with an effect to the rest of the noise.

    Parameters
    ----------
    effect
        An effect of the fit, which is no contrast.
    block
        A nuisance factor.
    design
        A design whose noise is what the effects leave.
    rows
        The data, N x p.

    Returns
    -------
    None if no samples of a level of the block share levels of the effect and differ in another factor, or if the noise
    cannot be divided into these two parts.
    """
    model, table = design.unit_model, design.table
    assert model is not None
    own = [table.factors.index(f) for f in table.factors_of(effect)]
    at = table.groups[design.codes][:, [table.factors.index(block), *own]]
    cells = np.unique(at, axis=0, return_inverse=True)[1].ravel()
    differing = [f for f in design.factors if f not in table.factors_of(effect) and _varies(design, f, cells)]
    if not differing:
        return None
    levels = at[:, 0][:, None] == np.unique(at[:, 0])
    coding = table.coding(effect)[design.codes]
    added = model.root[:, None] * (levels[:, :, None] * coding[:, None, :]).reshape(len(at), -1)
    Q = np.linalg.qr(model.columns.values)[0]
    U, size, _ = np.linalg.svd(added - Q @ (Q.T @ added), full_matrices=False)
    U = U[:, size > ROUNDING * np.linalg.norm(added, 2)]
    k, rest = U.shape[1], model.df - U.shape[1]
    if k == 0 or rest == 0:
        return None
    left = model.residuals(rows)
    total, of_block = np.sum(left**2, axis=0), np.sum((U.T @ left) ** 2, axis=0)
    varies = total > ROUNDING**2 * np.sum((model.root[:, None] * rows) ** 2, axis=0)
    share = float(np.mean(of_block[varies] / total[varies])) if varies.any() else 0.0
    ratio = share / k / max((1 - share) / rest, 1e-300)
    return Shared(differing, ratio, float(f_distribution.sf(ratio, k, rest)))


def warn_of_shared_responses(effects: Sequence[Effect], design: Design, rows: np.ndarray) -> None:
    """Warn of effects to which blocks respond differently, where samples of one block share the response."""
    for block in (f for f in design.nuisance if f in design.table.factors and f not in design.numeric):
        for effect in (e for e in effects if e in design.contrasts):
            found = shared_responses(effect, block, design, rows)
            if found is not None and found.pval <= LARGER:
                differing = " and ".join(repr(f) for f in found.differing)
                warn(
                    f"the p-values of {effect.name} are too small: levels of {block!r} respond differently to it (mean "
                    f"square {found.ratio:.1f} times that of the other noise), and their samples, which differ in "
                    f"{differing}, share the response. Test one level of {differing} at a time, or give {block!r} as "
                    "donor, without weights, and not as nuisance."
                )


def _varies(design: Design, factor: str, cells: np.ndarray) -> bool:
    """Return whether a factor varies among the samples of one cell of block and effect."""
    codes = design.table.groups[design.codes, design.table.factors.index(factor)]
    pairs = np.unique(np.column_stack([cells, codes]), axis=0)
    return len(pairs) > int(cells.max()) + 1
