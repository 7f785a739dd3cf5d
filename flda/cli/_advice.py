"""What ``flda check`` says of values, depth and donors, and how long it expects ``flda run`` to take."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from .. import tl
from .._adata import read
from .._design.design import Design
from .._error.depth import MANY_COUNTS, MANY_GENES, depth_by_level
from .._logging import quiet

SAMPLED = 2000  # cells whose values are looked at
PROBES = 150, 300  # cells of the two timed fits
DONOR_NAMES = ("donor", "sample", "patient", "subject", "individual", "mouse", "animal", "replicate", "library")


def sampled_rows(adata: AnnData, layer: str | None, rows: np.ndarray) -> sp.csr_matrix:
    """Some rows of the matrix, in memory."""
    part = adata[rows].to_memory() if adata.isbacked else adata[rows]
    return sp.csr_matrix(read.checked_expression(part, layer))


def values(X: sp.csr_matrix, name: str) -> Iterator[str]:
    """Say what the values look like: log-normalised, counts, linear, or scaled; and what to do about it."""
    data = X.data
    if data.size == 0:
        yield f"{name} holds only zeros"
        return
    if not np.isfinite(data).all():
        yield f"{name} holds NaN or infinite values; remove or impute them"
        return
    low, high = float(data.min()), float(data.max())
    means = np.asarray(X.mean(axis=0)).ravel()
    if low < 0:
        what = "looks scaled (z-scores)" if np.median(np.abs(means)) < 0.1 else "has negative values"
        yield (
            f"{name} {what}: values from {low:.3g} to {high:.3g}; use the log-normalised matrix, often in .raw or in a "
            "layer (--layer)"
        )
    elif (data == np.floor(data)).all() and high > 1:
        yield f"{name} looks like raw counts: whole numbers up to {high:.0f}; add --from-counts to flda run"
    elif high > 50:
        yield f"{name} looks normalised but not logarithmic: values up to {high:.3g}; take log1p"
    else:
        yield f"{name} looks log-normalised: values from 0 to {high:.3g}, {X.nnz / np.prod(X.shape):.0%} not zero"


def depth(adata: AnnData, X: sp.csr_matrix, design: Design, cells: np.ndarray, layer: str | None) -> Iterator[str]:
    """Compare the depth of the levels of every factor; ``cells`` are the rows that X holds, of the labelled cells."""
    known = read.depth(adata, layer)
    if known is None:
        of_cells, limit, source = np.maximum(np.diff(X.indptr), 1), MANY_GENES, "the number of detected genes"
    else:
        of_cells, limit, source = known[0][cells], MANY_COUNTS, known[1]
    labels = design.codes
    counts = np.bincount(labels, minlength=design.n_groups)
    sums = np.bincount(labels, np.log(of_cells), design.n_groups)
    if not counts.all():
        return
    for row in depth_by_level(design, sums).itertuples():
        warning = "; enter its logarithm as a covariate (--nuisance with --numeric)" if row.ratio > limit else ""
        yield f"{row.factor}: {row.ratio:.2f} times between {row.highest} and {row.lowest} ({source}){warning}"


def donors(obs: pd.DataFrame, factors: list[str], donor: str | None) -> Iterator[str]:
    """Say whether factors vary between or within donors, or which column may hold donors that were not named."""
    if donor is None:
        near = [str(c) for c in obs if c not in factors and any(name in str(c).lower() for name in DONOR_NAMES)]
        if near:
            yield f"none given; if {' or '.join(near)} holds donors, add --donor: without it, p-values are too small"
        return
    known = obs[[donor, *factors]].dropna()
    yield f"{known[donor].nunique()} in {donor}"
    for factor in factors:
        per_donor = known.groupby(donor, observed=True)[factor].nunique()
        per_level = known.groupby(factor, observed=True)[donor].nunique()
        kind = "between donors" if (per_donor == 1).all() else "within donors"
        few = "; a test needs 3 donors of every level" if kind == "between donors" and per_level.min() < 3 else ""
        low, high = per_level.min(), per_level.max()
        yield f"{factor} varies {kind}, with {low if low == high else f'{low} to {high}'} donors per level{few}"


def seconds(adata: AnnData, codes: np.ndarray, fit: Callable[[AnnData], Any], folds: int) -> tuple[float, str]:
    """Estimate how long ``flda run`` takes, and say how.

    Fits and selections of genes are timed on two samples of cells, spread over the groups, with all genes. Their
    growth with the number of cells is extrapolated as a power between 0 and 1, and multiplied by the fits that a run
    makes: one, and one for every fold of the certificate.
    """
    sizes, took = [], []
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for size in PROBES:
            known = np.flatnonzero(codes >= 0)
            place = pd.Series(codes[known]).groupby(codes[known]).cumcount().to_numpy()
            rows = np.sort(known[np.argsort(place, kind="stable")[:size]])  # the first cells of every group
            part = adata[rows].to_memory() if adata.isbacked else adata[rows].copy()
            begin = time.perf_counter(), time.process_time()
            fit(part)
            tl.rank_genes(part, n_genes=min(20, part.n_vars), gap_effort=0)
            # other programs take time of the clock, and several threads take time of several processors
            took.append(min(time.perf_counter() - begin[0], time.process_time() - begin[1]))
            sizes.append(len(rows))
            if len(rows) == len(known):
                break
    power = 0.0
    if len(sizes) > 1 and sizes[1] > sizes[0]:
        power = float(np.clip(np.log(took[1] / took[0]) / np.log(sizes[1] / sizes[0]), 0, 1))
    one = took[-1] * (int((codes >= 0).sum()) / sizes[-1]) ** power
    probes = " and ".join(f"{t:.1f} s for {n} cells" for t, n in zip(took, sizes, strict=True))
    return one * (1 + folds), (
        f"estimated from a fit and a selection of genes with {probes}, extrapolated to {(codes >= 0).sum():,} cells "
        f"and {1 + folds} fits; figures and options such as --permutations and --stability take longer"
    )


def in_words(time_s: float) -> str:
    """A duration with one or two digits."""
    if time_s < 90:
        return f"{max(1, round(time_s)):.0f} seconds"
    return f"{time_s / 60:.0f} minutes" if time_s < 5400 else f"{time_s / 3600:.1f} hours"
