"""Steps of an analysis: they take an AnnData and write their results into it."""

from ._certify import certify
from ._counterfactual import certify_counterfactual, counterfactual
from ._fit import flda
from ._gene_sets import gene_sets
from ._held_out import held_out_scores
from ._panel import panel
from ._path import path
from ._penalty import choose_penalty
from ._predict import predict
from ._rank import rank_genes
from ._scale import scale_check
from ._stability import stability
from ._tests import effect_tests
from ._transform import transform

__all__ = [
    "certify",
    "certify_counterfactual",
    "choose_penalty",
    "counterfactual",
    "effect_tests",
    "flda",
    "gene_sets",
    "held_out_scores",
    "panel",
    "path",
    "predict",
    "rank_genes",
    "scale_check",
    "stability",
    "transform",
]
