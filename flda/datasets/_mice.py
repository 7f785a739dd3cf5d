"""Protein levels in the cortex of mice that learned, or did not."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from anndata import AnnData

from ._files import fetch

FACTORS = {
    "genotype": ("Genotype", {"Control": "Control", "Ts65Dn": "Ts65Dn"}),
    "treatment": ("Treatment", {"Saline": "Saline", "Memantine": "Memantine"}),
    "behaviour": ("Behavior", {"S/C": "shock-context", "C/S": "context-shock"}),
}
# Their genes lie on mouse chromosome 16 between Mrpl39 and Zbtb21, the segment of which Ts65Dn has three copies. DSCR1 is
# the older name of RCAN1. RRP1 is on human chromosome 21 as they are, but on chromosome 10 of the mouse.
TRIPLICATED = ("APP", "DSCR1", "DYRK1A", "ITSN1", "SOD1", "TIAM1")


def mice_protein(data_dir: str | os.PathLike | None = None) -> AnnData:
    """Load levels of 77 proteins in the cortex of 72 mice: genotype x treatment x behaviour (Higuera et al. 2015).

    Each mouse was measured 15 times, which makes 1,080 measurements in 8 groups of 7 to 10 mice. All factors vary
    between mice, so the mouse is the replicate: pass ``donor="mouse"``. Ts65Dn mice model Down syndrome. Memantine is a
    drug that may restore their learning. Mice of the behaviour ``context-shock`` explored a cage before a shock and
    learned to fear it; mice of the behaviour ``shock-context`` received the shock at once and did not learn.

    ``X`` is the logarithm to the base 2 of the level, since levels are relative and their medians differ 31-fold between
    proteins. Differences of ``X`` are log2 fold changes. It has no missing values. The source has no value in 1,396 of
    83,160 places, and one level (of RRP1) is negative, which no level can be. These 1,397 places were filled on the
    scale of ``X``:

    * 137 by the mean of the other measurements of the same protein in the same mouse;
    * 1,260, where all measurements of a protein in a mouse are missing (84 pairs), by the mean of the means of all
      other mice. These pairs belong to BCL2 (19 mice), H3MeK4 (18), BAD (14), EGR1 (14), H3AcK18 (12), pCFOS (5),
      Bcatenin (1) and ELK (1).

    The filled values use no labels of the design. Means within groups would make effects appear in noise: in a
    simulation of two groups of 36 mice without a difference, of which a quarter was filled in this way, a t test gave
    p < 0.05 in 14 % of the cases, and in 5 % with the rule used here. To leave out the six proteins with many missing
    values, use ``adata[:, adata.var["n_missing"] < 20]``.

    ARC and pS6 have the same values in the source. Both are kept.

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    AnnData with the log2 levels in ``X``, and

    * ``layers["level"]``: the levels as in the source, with NaN where there is no value
    * ``layers["observed"]``: whether the value in ``X`` was measured, boolean
    * ``obs["genotype"]``: Control or Ts65Dn
    * ``obs["treatment"]``: Saline or Memantine
    * ``obs["behaviour"]``: shock-context or context-shock
    * ``obs["mouse"]``: the mouse
    * ``obs["measurement"]``: number of the measurement of the mouse, 1 to 15
    * ``var["triplicated"]``: whether Ts65Dn mice have three copies of the gene, from the location of the mouse's gene:
      APP, DSCR1 (RCAN1), DYRK1A, ITSN1, SOD1 and TIAM1
    * ``var["n_missing"]``: number of filled values

    Raises
    ------
    FileNotFoundError, ValueError, ImportError, OSError
        As :func:`fetch`.

    References
    ----------
    Higuera C, Gardiner KJ, Cios KJ. Self-organizing feature maps identify proteins critical to learning in a mouse
    model of Down syndrome. PLoS ONE 10:e0129126 (2015). Data: UCI Machine Learning Repository 342, CC BY 4.0.

    Examples
    --------
    >>> adata = mice_protein()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (1080, 77)
    """
    table = pd.read_csv(fetch("mice_protein", "Data_Cortex_Nuclear.csv", data_dir=data_dir), encoding="utf-8-sig")
    names = [c for c in table.columns if c.endswith("_N")]
    level = table[names].to_numpy(np.float64)
    observed = level > 0
    identity = table["MouseID"].str.rsplit("_", n=1, expand=True)
    mouse = pd.Categorical(identity[0], categories=identity[0].unique())
    obs = pd.DataFrame(
        {
            name: pd.Categorical(table[column].map(levels), categories=list(levels.values()))
            for name, (column, levels) in FACTORS.items()
        }
    )
    obs["mouse"] = mouse
    obs["measurement"] = identity[1].astype(int)
    obs.index = pd.Index(table["MouseID"].astype(str), name=None)
    proteins = [n.removesuffix("_N") for n in names]
    var = pd.DataFrame(
        {"triplicated": np.isin(proteins, TRIPLICATED), "n_missing": (~observed).sum(axis=0)}, index=proteins
    )
    log_level = np.log2(level, where=observed, out=np.full(level.shape, np.nan))
    return AnnData(_filled(log_level, mouse), obs=obs, var=var, layers={"level": level, "observed": observed})


def _filled(X: np.ndarray, mouse: pd.Categorical) -> np.ndarray:
    """Replace NaN by the mean of the column in the mouse, or else by the mean of the means of the mice that have one."""
    means = pd.DataFrame(X).groupby(mouse.codes).mean()
    means = means.fillna(means.mean())
    return np.where(np.isnan(X), means.to_numpy()[mouse.codes], X)
