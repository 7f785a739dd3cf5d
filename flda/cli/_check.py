"""``flda check``: groups and effects of a file, and advice before a long run."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from anndata import AnnData

from .. import tl
from .._adata import read
from .._design.covariates import variation
from .._design.design import Design
from .._design.effects import Effect
from .._design.formula import parse_formula
from .._design.make import make_design
from .._logging import quiet
from .._solve.slopes import LEAST_VARIATION
from . import _advice as advice
from ._arguments import FOLDS
from ._reading import read_data

LITTLE_LEFT = 0.05  # share of a covariate from which its slope is called imprecise


def check(args: argparse.Namespace) -> None:
    """Print the groups and the effects that they can estimate, and look at values, depth, donors and time."""
    adata = read_data(args.file, counts=True, backed=True, labels=args.labels)
    factors, interactions, nuisance = args.factors, args.interactions, args.nuisance or []
    numeric = dict(args.numeric) if args.numeric else None
    if args.formula:
        found = parse_formula(args.formula, read.in_memory(adata.obs), nuisance, numeric)
        factors, interactions, numeric = found.factors, found.interactions or None, found.numeric
    labels = read.labels(adata, [*factors, *nuisance])
    labelled = labels.notna().all(axis=1)
    if not labelled.all():
        print(f"{(~labelled).sum()} of {len(labels)} cells lack a label and would be left out of the fit")
    with quiet():
        design = make_design(
            labels[labelled], interactions=interactions, nuisance=nuisance, numeric=numeric,
            contrasts=dict(args.contrast) if args.contrast else None, error="auto",
        )  # fmt: skip
    table = design.counts_table()
    index, columns = (factors[:-1], factors[-1]) if len(factors) > 1 else (factors, None)
    wide = table.pivot_table(index=index, columns=columns, values="n_cells", aggfunc="sum", observed=False)
    print(f"{adata.n_obs:,} cells x {adata.n_vars:,} genes; cells per group:\n")
    print(wide.astype(int).to_string())
    print("\neffects:")
    for row in design.report.itertuples():
        of_nuisance = set(design.table.factors_of(Effect.parse(row.effect))) & set(nuisance)
        role = "nuisance, no axes" if of_nuisance else f"{row.df} axes" if row.df > 1 else "1 axis"
        role += f"; {row.reason}" if row.left_out else ""
        print(f"  {row.effect:<30} {role if row.estimable else 'cannot be estimated: ' + row.reason}")
    for effect, contrast in design.named.items():
        print(f"  {effect.name:<30} 1 axis: {contrast.text(design.levels)}")
    _print_numbers(design)
    if design.unit_model is not None:
        print(f"\nnoise: what the effects leave of single units, {design.unit_model.df} degrees of freedom")
        return
    few = table[(table["n_cells"] > 0) & (table["n_cells"] < 5)]
    if len(few):
        print(f"\n{len(few)} groups have fewer than 5 cells; their means are noisy")

    _check_more(adata, args, factors, nuisance, interactions, numeric, labelled.to_numpy())


def _check_more(
    adata: AnnData, args: argparse.Namespace, factors: list[str], nuisance: list[str], interactions: Any, numeric: Any,
    labelled: np.ndarray,
) -> None:  # fmt: skip
    """The parts of ``flda check`` that read values."""
    known = np.flatnonzero(labelled)
    rows = known[np.unique(np.linspace(0, len(known) - 1, advice.SAMPLED).astype(int))]
    X = advice.sampled_rows(adata, args.layer, rows)
    print(f"\nvalues of {len(rows):,} cells:")
    for line in advice.values(X, read.matrix_name(args.layer)):
        print(f"  {line}")
    with quiet():
        sampled = make_design(
            read.labels(adata, [*factors, *nuisance]).iloc[rows], interactions=None, nuisance=nuisance, numeric=numeric
        )
    print("depth:")
    for line in advice.depth(adata, X, sampled, rows, args.layer):
        print(f"  {line}")
    obs = read.in_memory(adata.obs)
    if lines := list(advice.donors(obs, factors, args.donor)):
        print("donors:", *lines, sep="\n  ")
    if args.no_time:
        return
    codes = np.full(adata.n_obs, -1)
    codes[known] = obs.loc[labelled, factors].astype(str).groupby(factors, sort=False).ngroup()

    def fit(part: AnnData) -> None:
        tl.flda(
            part, args.formula or args.factors, interactions=args.interactions, nuisance=args.nuisance,
            numeric=dict(args.numeric) if args.numeric else None, layer=args.layer,
            contrasts=dict(args.contrast) if args.contrast else None,
        )  # fmt: skip

    try:
        time_s, how = advice.seconds(adata, codes, fit, FOLDS)
    except ValueError as error:
        print(f"time: could not be estimated ({error})")
        return
    print(f"time of flda run: about {advice.in_words(time_s)}; {how}")


def _print_numbers(design: Design) -> None:
    """Print the values of numeric factors, and how much of each covariate varies beside the groups."""
    for name, values in design.numeric.items():
        print(f"\n{name}: a number with {len(values)} values from {values.min():.3g} to {values.max():.3g}")
    if design.covariates is None:
        return
    print("\ncovariates, with a slope for every gene and no axes:")
    explained = np.eye(design.n_groups)[design.codes]
    if design.unit_model is not None:
        explained = design.unit_model.of_groups[design.codes]
    for effect, share in variation(design.covariates.values, design.covariates.columns, explained).items():
        verdict = ": its slope is imprecise" if share < LITTLE_LEFT else ""
        if share <= LEAST_VARIATION**2:
            verdict = ": its slope cannot be estimated; leave it out, or bin it"
        print(f"  {effect.name:<30} groups and other covariates leave {share:.1%} of its variance{verdict}")
