"""Tools: AnnData in, results written into the AnnData."""

from ._belief import certify, permutation_test, stability
from ._fit import flda
from ._held_out import held_out_scores
from ._path import path
from ._rank import rank_genes
from ._transform import transform

__all__ = [
    "certify",
    "flda",
    "held_out_scores",
    "path",
    "permutation_test",
    "rank_genes",
    "stability",
    "transform",
]
