"""Tools: AnnData in, results written into the AnnData."""

from ._certify import certify
from ._fit import flda
from ._held_out import held_out_scores
from ._path import path
from ._rank import rank_genes
from ._stability import stability
from ._tests import permutation_test
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
