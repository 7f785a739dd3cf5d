"""Where results live in an AnnData: one rule for writers and readers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import pandas as pd
from anndata import AnnData, ImplicitModificationWarning


@dataclass(frozen=True)
class Keys:
    """Slots that belong to ``key_added``."""

    key: str = "flda"

    @property
    def obsm(self) -> str:
        """Scores, N x k."""
        return f"X_{self.key}"

    @property
    def obsm_held_out(self) -> str:
        """Scores of cells on axes that were fitted without them, N x k."""
        return f"X_{self.key}_held_out"

    @property
    def varm(self) -> str:
        """Loadings, p x k."""
        return self.key

    @property
    def varm_sparse(self) -> str:
        """Loadings of the sparse axes, p x k."""
        return f"{self.key}_sparse"

    @property
    def varm_f(self) -> str:
        """F ratio of every gene for every effect, p x effects in the fit."""
        return f"{self.key}_F"

    @property
    def var_sd(self) -> str:
        """Within-group standard deviation of every gene; NaN where the gene was left out."""
        return f"{self.key}_within_sd"

    @property
    def var_centre(self) -> str:
        """Unweighted mean of the group means of every gene, where scores are zero; NaN where the gene was left out."""
        return f"{self.key}_centre"

    @property
    def uns(self) -> str:
        """Parameters and tables."""
        return self.key


def _write(adata: AnnData, key: str, **slots: Any) -> None:
    with warnings.catch_warnings():
        # writing into a view makes it a real object, which is what the caller asked for
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.uns[Keys(key).uns].update(slots)


def _savable(table: pd.DataFrame) -> pd.DataFrame:
    """Columns that every AnnData file format can hold: levels as text, no slash in a name."""
    text = {c: table[c].astype(str) for c in table if isinstance(table[c].dtype, pd.CategoricalDtype)}
    return table.assign(**text).rename(columns=lambda c: c.replace("/", "_"))
