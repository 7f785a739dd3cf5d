"""Results as tidy DataFrames. Nothing in the AnnData is changed, and the tables are copies."""

from ._axes import certificate_df, counterfactual_df, effect_tests_df, path_df, penalties_df
from ._fit import axes_df, design_df, estimability_df, scale_check_df, variance_df
from ._genes import RANKING_COLUMNS as RANKING_COLUMNS
from ._genes import SORT_BY as SORT_BY
from ._genes import gene_sets_df, gene_tests_df, preranked_df, rank_genes_df, stability_df
from ._panel import panel_axes_df, panel_df

__all__ = [
    "axes_df",
    "certificate_df",
    "counterfactual_df",
    "design_df",
    "effect_tests_df",
    "estimability_df",
    "gene_sets_df",
    "gene_tests_df",
    "panel_axes_df",
    "panel_df",
    "path_df",
    "penalties_df",
    "preranked_df",
    "rank_genes_df",
    "scale_check_df",
    "stability_df",
    "variance_df",
]
