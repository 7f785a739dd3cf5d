"""The fit of axes of all genes: :func:`flda.tl.flda`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from .._adata import identity, read
from .._adata.keys import check_storable
from .._adata.results import Step, check_new_fit, scanpy_name
from .._design.contrasts import storable_contrasts
from .._design.design import Design
from .._design.effects import Effect
from .._design.formula import is_formula, parse_formula
from .._design.samples import sample_units
from .._docs import documented
from .._error.depth import MANY_COUNTS, MANY_GENES, depth_by_level
from .._error.gene_f import gene_f
from .._logging import quiet, warn
from ..estimators import FLDA
from ..estimators._solved import Prepared
from ..metrics import total_products
from ..metrics._axes import effect_variances


@documented
def flda(
    adata: AnnData,
    factors: str | Sequence[str],
    *,
    interactions: str | Iterable[str | Sequence[str]] | None = "all",
    nuisance: str | Sequence[str] | None = None,
    numeric: str | Sequence[str] | Mapping[str, int | str] | None = None,
    contrasts: Mapping[str, Any] | None = None,
    donor: str | None = None,
    layer: str | None = None,
    mask_var: str | np.ndarray | None = None,
    n_components: int | Mapping[str, int] | None = None,
    objective: str = "ratio",
    penalty: float | Mapping[str, float] = 1.0,
    lack_of_fit: float = 0.3,
    weights: str = "random",
    reliability: bool = True,
    group_means: str = "observed",
    error: str = "auto",
    shrinkage: float | str = "auto",
    allow_counts: bool = False,
    device: str = "cpu",
    random_state: int = 0,
    key_added: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Find axes of expression that vary with one factor, or interaction, and little with the others.

    Runs :class:`flda.FLDA` on the cells that have a label for every factor, and scores all cells. ``.raw`` is never
    used. Cells that :func:`flda.pp.augment` simulated take part in the fit, but not in the tuning of the shrinkage or
    in ``variance``.

    Parameters
    ----------
    adata
        Cells x genes with log-normalised expression.
    factors
        Columns of ``obs`` with the factors, such as ``["dendrite", "axon"]``. Their combinations are the groups. Or a
        formula, such as ``"~ drug * dose + batch"``, which also says which interactions are in the fit; a column of
        numbers is then numeric unless it is written as ``C(column)``, and ``poly(column, 2)`` gives it a degree. It
        needs formulaic (``pip install "flda[formula]"``).
    interactions
        ``"all"`` for every interaction that the groups can estimate, ``"estimable"`` to keep also those of which they
        can estimate a part, None, or a list such as ``["dendrite:axon"]``.
    nuisance
        Columns of ``obs`` that enter the fit as additive effects without axes, such as a batch.
    numeric
        Columns that are numbers and not labels, such as a dose: names for their linear effects, or a dict with a
        degree, ``"trend"`` or ``"spline"`` for each; see :class:`flda.FLDA`. Effects are then ``dose.linear``,
        ``dose.quadratic``, ``dose.rest`` or ``dose.spline``, also in interactions.
    contrasts
        Named contrasts with axes of their own, such as
        ``{"stim in B": ({"type": "B", "condition": "stim"}, {"type": "B", "condition": "ctrl"})}``; see
        :class:`flda.FLDA`.
    donor
        Column of ``obs`` with the donor. Cross-validated shrinkage then holds out whole donors, and donors enter the
        error term if a factor varies between them; see :class:`flda.FLDA`.
    layer
        Layer to use instead of ``X``.
    mask_var
        Genes to use: a boolean column of ``var`` or a boolean array. None for all genes.
    n_components
        Number of axes per effect: None for as many as the effect has degrees of freedom, a number, or a dict by effect.
    objective
        ``"ratio"``, in which other effects are noise, or ``"difference"``, the form of the paper; see
        :class:`flda.FLDA`.
    penalty
        Penalty on the variance of other effects: a number, or a dict by effect; see :class:`flda.FLDA`.
    lack_of_fit, reliability
        Refinements of the ratio, see :class:`flda.FLDA`.
    weights
        ``"random"`` or ``"equal"`` say how groups weigh, see :class:`flda.FLDA`. For pseudobulk samples, the column of
        ``obs`` with the number of cells of each, by which they weigh then; ``"n_cells"`` also finds the columns
        ``psbulk_cells``, ``psbulk_n_cells`` and ``n_obs_aggregated``.
    group_means
        ``"observed"`` uses the group means as they are. ``"shrunken"`` moves the means of small groups towards the
        values that the effects predict; see :class:`flda.FLDA`.
    error
        What the noise is: what varies ``"within"`` groups, the ``"residual"`` that the effects leave, or ``"auto"``;
        see :class:`flda.FLDA`.
    shrinkage
        Shrinkage of the within-group scatter, see :class:`flda.FLDA`.
    allow_counts
        Whether to fit values that look like raw counts: whole numbers of 0 and more, some of them above 1. Without it
        they are refused.
    device
        ``"cuda"`` computes on a GPU through cupy (``pip install "flda[gpu]"``). The data pass through the GPU in
        blocks, so they need not fit into its memory. All results are NumPy arrays. Later steps use the same device, or
        the CPU if there is no GPU.
    {random_state}
    key_added
        Key of the results, see below.
    {copy}

    Returns
    -------
    None, or the copy if ``copy=True``. Writes:

    * ``obs["flda_group"]``: the crossed levels of the factors, such as ``T4 x a``, for the ``groupby`` of scanpy
    * ``obsm["X_flda"]``: scores of all cells, ndarray N x k
    * ``varm["flda"]``: loadings, ndarray p x k, zero for genes that were not used
    * ``varm["flda_pattern"]``: correlation of each gene with each axis (:func:`flda.metrics.patterns`), ndarray p x k
    * ``varm["flda_F"]``: F ratio of each gene for every effect in the fit, ndarray p x effects
    * ``var["flda_within_sd"]``: within-group standard deviation, of a gene that varies between groups only that of the
      shrinkage target (see :class:`flda.FLDA`); NaN for genes that were not used
    * ``var["flda_centre"]``: mean of the group means, at which all scores are zero; NaN for genes that were not used
    * ``varm["flda_discriminants"]``: discriminant of each group, ndarray p x C, for :func:`flda.tl.predict`
    * ``uns["flda"]``: ``params``, ``axes``, ``design``, ``estimability``, ``effects``, ``fit``, ``variance``,
      ``prediction`` and ``versions``, and ``contrasts`` if there are any; ``warned``, the warnings of every step; and
      ``identity`` and ``scored``, hashes by which later steps know whether the data are still the same. Read the
      tables with
      :func:`flda.get.axes_df`, :func:`flda.get.design_df`, :func:`flda.get.estimability_df` and
      :func:`flda.get.variance_df`

    With another ``key_added``, the names contain it instead of ``flda`` (``X_<key>``, ``<key>``, ...). A new fit
    removes the results of all steps that followed an earlier fit under the same key.

    Warns
    -----
    FLDAWarning
        If ``var["highly_variable"]`` marks some genes but all are used, if values are negative, if cells or
        interactions are left out, or if the cells of the levels of a factor differ much in depth: by more than 2 in the
        geometric mean of total counts (``obs["total_counts"]``, ``obs["n_counts"]`` or sums of ``layers["counts"]``),
        or by more than 1.5 in that of detected genes if these are not there. The results keep the text of every
        warning, also of later steps.

    Raises
    ------
    ValueError
        If a column, a layer, a value or a key cannot be used, or values look like raw counts. ``adata`` is then left as
        it was.
    ImportError, RuntimeError
        If ``device="cuda"`` and cupy is not installed, or there is no GPU.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> adata.obsm["X_flda"].shape
    (400, 7)
    """
    step = Step("flda", adata, key_added, copy, random_state)
    factors = [factors] if isinstance(factors, str) else list(factors)
    nuisance = [nuisance] if isinstance(nuisance, str) else list(nuisance or ())
    check_new_fit(adata, key_added, [*factors, *nuisance, donor])
    if len(factors) == 1 and is_formula(factors[0], (obs := read.in_memory(adata.obs)).columns):
        if interactions != "all":
            raise ValueError("a formula says which interactions are in the fit; leave interactions out.")
        found = parse_formula(factors[0], obs, nuisance, numeric)
        factors, interactions, numeric = found.factors, found.interactions or None, found.numeric or None
    if isinstance(numeric, str):
        numeric = [numeric]
    if isinstance(interactions, Iterable) and not isinstance(interactions, str):
        interactions = [i if isinstance(i, str) else Effect(i).name for i in interactions]
    column = read.weights_column(adata, weights)
    options: dict[str, Any] = {
        "interactions": interactions,
        "nuisance": nuisance,
        "numeric": numeric if numeric is None or isinstance(numeric, Mapping) else list(numeric),
        "contrasts": contrasts,
        "n_components": n_components,
        "objective": objective,
        "penalty": penalty,
        "lack_of_fit": lack_of_fit,
        "weights": column or weights,
        "reliability": reliability,
        "group_means": group_means,
        "error": error,
        "shrinkage": shrinkage,
        "random_state": random_state,
    }
    params = {
        **options,
        "contrasts": storable_contrasts(contrasts, factors),
        "factors": factors,
        "donor": donor,
        "layer": layer,
        "allow_counts": bool(allow_counts),
        "mask_var": mask_var if mask_var is None or isinstance(mask_var, str) else "array",
        "device": device,
        "use_raw": False,
    }
    check_storable(params)
    if donor in factors:
        raise ValueError(
            f"donor={donor!r} is also a factor, and no spread between donors can judge a difference between donors; "
            "make it nuisance instead of a factor, or leave donor out."
        )
    genes = read.gene_mask(adata, mask_var)
    read.warn_of_unused_choice(adata, mask_var)
    cells = read.read_cells(adata, factors, nuisance, donor, layer, genes, device, weights=column)

    model, n_simulated = FLDA(**options), int(np.sum(cells.labelled & ~cells.real))
    if isinstance(shrinkage, str) and n_simulated:
        # only real cells can measure what holds beyond the fitted ones
        with quiet(), read.naming(cells.names[cells.real], cells.genes, layer):
            model.fit(*cells.of(cells.real))
        model.set_params(shrinkage=model.shrinkage_)
    with read.naming(cells.names[cells.labelled], cells.genes, layer):
        prepared = model._prepare(*cells.of(cells.labelled))
        read.check_values(adata, layer, prepared.summary, allow_counts=allow_counts)
        _warn_of_depth(adata, cells, prepared, layer)
        model._fit(prepared)
    k = len(model.axes_)
    with read.naming(cells.names, cells.genes, layer):  # one pass gives the scores and the mark of the values
        products = model._product(cells.X, np.hstack([model.components_.T, identity.gene_weights(cells.genes)]))
    scores = products[:, :k] - model._centre @ model.components_.T
    mark = identity.describe(cells.names, cells.columns(), cells.labelled, cells.genes, products[:, k:], scores)
    real: Prepared | None = prepared
    if n_simulated:
        part = prepared.design.subset(np.flatnonzero(cells.real[cells.labelled]))
        real = None if part is None else FLDA(**options)._prepare(*cells.of(cells.real))

    predictor = model._predictor
    F = gene_f(prepared.design, prepared.donors, prepared.summary.sums, prepared.summary.squares)
    units = prepared.design.unit_model
    fit = {
        "error": "within" if units is None else "residual",
        **({} if units is None else {"df_residual": units.df}),
        "n_cells": int(cells.labelled.sum()),
        "n_genes": int(genes.sum()),
        "shrinkage": model.shrinkage_,
        "solver": model.solver_,
        "residual": model.residual_,
        **({"n_augmented": n_simulated} if n_simulated else {}),
        **({} if model.donor_share_ is None else {"donor_share": model.donor_share_}),
    }
    design = model.design_
    named = {
        e.name: {"sides": design.named[e].text(design.levels), "others": [o.name for o in design.others(e)]}
        for e in design.named
    }
    return step.write(
        f"{fit['n_cells']} cells x {fit['n_genes']} genes in {model.design_.n_groups} groups, "
        f"{len(model.axes_)} axes, shrinkage {model.shrinkage_:.3g}; ",
        genes=genes,
        params=params,
        axes=model.axes_,
        design=model.design_.counts_table(),
        estimability=model.design_.report,
        effects=list(F.columns),
        fit=fit,
        variance=_variance(real, prepared.design),
        **({"contrasts": named} if named else {}),
        versions={name: version(name) for name in ("flda", "numpy", "scipy", "scikit-learn", "anndata")},
        scored=mark.pop("scored"),
        identity=mark,
        groups=crossed_groups(model.design_, factors, cells.labelled),
        scores=scores,
        loadings=model.components_.T,
        patterns=model.patterns_.T,
        F=F,
        within_sd=model.within_sd_,
        centre=model.means_.mean(axis=0),
        prediction=predictor.stored(),
        discriminants=predictor.discriminants,
    )


def crossed_groups(design: Design, factors: Sequence[str], labelled: np.ndarray) -> pd.Categorical:
    """The crossed levels of the factors of every cell, in the order of the design; missing without labels."""
    of_group = design.table.groups[:, [design.table.factors.index(f) for f in factors]]
    crossed, code = np.unique(of_group, axis=0, return_inverse=True)
    names = [" x ".join(str(design.levels[f][i]) for f, i in zip(factors, row, strict=True)) for row in crossed]
    allowed = list(map(scanpy_name, names))  # as in the fields of scanpy's records
    names = allowed if len(set(allowed)) == len(names) else names
    codes = np.full(len(labelled), -1)
    codes[labelled] = code.ravel()[design.codes]
    return pd.Categorical.from_codes(codes, names)


def _warn_of_depth(adata: AnnData, cells: read.Cells, prepared: Prepared, layer: str | None) -> None:
    """Warn if the levels of a factor differ much in depth: in total counts, or else in the number of detected genes."""
    design, known = prepared.design, read.depth(adata, layer)
    if known is None:
        units = sample_units(design, prepared.donors)
        log_depth = np.bincount(units.groups, prepared.summary.log_detected, design.n_groups)
        limit, source = MANY_GENES, "the number of detected genes"
    else:
        log_depth = np.bincount(design.codes, np.log(known[0][cells.labelled]), design.n_groups)
        limit, source = MANY_COUNTS, known[1]
    read.warn_of_depth(depth_by_level(design, log_depth), limit, source)


def _df_of_noise(design: Design) -> int:
    """Degrees of freedom within groups, or those that the effects leave."""
    return int(design.counts.sum() - design.n_groups) if design.unit_model is None else design.unit_model.df


def _variance(real: Prepared | None, design: Design) -> pd.DataFrame:
    """Variance of all genes by effect: ``effect, df, variance, share``; the last row is the variance within groups.

    ``real`` holds the real cells; it is None if they cannot estimate every effect of the design, which gives NaN.
    """
    if real is None:
        warn("some effect cannot be estimated without the simulated cells; flda.get.variance_df holds NaN.")
        shares = variance = pd.Series(np.nan, index=[*(e.name for e in design.contrasts), "within"])
    else:
        design = real.design
        products = total_products(real.summary.sums, real.summary.squares.sum(axis=1), design, real.donors)
        variance = effect_variances(*products, design)[0]
        shares = variance / variance.sum()
    return pd.DataFrame(
        {
            "effect": shares.index.to_list(),
            "df": [*map(design.df, design.contrasts), _df_of_noise(design)],
            "variance": variance.to_numpy(),
            "share": shares.to_numpy(),
        }
    )
