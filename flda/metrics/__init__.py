"""Measures of genes and axes, from labels, scores, group means and variances."""

from ._axes import (
    effect_shares,
    explained_variance,
    modularity,
    mutual_information,
    mutual_information_gap,
)
from ._genes import largest_signs, patterns, significant, specificity
from ._ratios import effect_snr, mean_products, total_products

__all__ = [
    "effect_shares",
    "effect_snr",
    "explained_variance",
    "largest_signs",
    "mean_products",
    "modularity",
    "mutual_information",
    "mutual_information_gap",
    "patterns",
    "significant",
    "specificity",
    "total_products",
]
