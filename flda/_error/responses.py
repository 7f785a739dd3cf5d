"""Blocks whose response to an effect is shared by several of their samples.

A fit with blocks, such as donors, whose noise is what the effects leave takes the samples of a block for independent,
apart from its mean. If blocks respond differently to an effect S, the samples of one block under one level of S share
its response: the interaction of block and S is then larger than the other noise, and is what S should be judged by.
Labels say whether samples of a block share levels of S. The data say whether the interaction is larger: with U its
columns that the model does not have (orthonormal, k of them) and r_j the residuals of gene j, its mean square is
``|U'r_j|^2 / k``, and that of the rest ``(|r_j|^2 - |U'r_j|^2) / (N - q - k)``. Both are summed over genes in units of
``|r_j|^2``. With ``G = sum_j r_j r_j' / |r_j|^2`` the sums under random signs s of the samples are the quadratic forms
``s'(U U' * G) s`` and ``s'((1 - H) * G) s``, H being the projection of the model. All genes of a sample have the same
sign, so correlations between genes are as in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .._design.design import Design
from .._design.effects import Effect
from .._logging import warn

LARGER = 0.05  # p-value up to which a mean square is larger than that of the rest
N_FLIPS = 199
ROUNDING = 1e-8  # share of a column that is a rounding error
TIE = 1e-9  # relative difference up to which ratios count as tied


class Shared(NamedTuple):
    """What the data say of one block and one effect.

    Attributes
    ----------
    differing
        Factors in which the samples of a block that share levels of the effect differ.
    ratio
        Mean square of the interaction of block and effect over that of the other residuals.
    pval
        Share of random signs of the samples, the data among them, with so large a ratio.
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
    left, scale = model.residuals(rows), np.linalg.norm(model.root[:, None] * rows, axis=0)
    size = np.linalg.norm(left, axis=0)
    left = left[:, size > ROUNDING * scale] / size[size > ROUNDING * scale]
    if left.shape[1] == 0:
        return None
    G = left @ left.T
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (N_FLIPS + 1, len(G)))
    signs[0] = 1
    of_block, total = (
        np.sum(signs @ (projection * G) * signs, axis=1) for projection in (U @ U.T, np.eye(len(G)) - Q @ Q.T)
    )
    ratios = (of_block / k) / np.maximum((total - of_block) / rest, 1e-300)
    return Shared(differing, float(ratios[0]), float(np.mean(ratios >= ratios[0] * (1 - TIE))))


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
