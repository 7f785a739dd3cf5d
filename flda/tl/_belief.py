"""The part of :mod:`flda.tl` that says how far to believe a fit: certificates, tests, stability."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData, ImplicitModificationWarning

from .. import _anndata, get
from .._device import NoDevice, require
from .._keys import Keys
from .._quiet import quiet
from ..estimators import FLDA, SparseFLDA
from ..inference import Bootstrap, PermutationTest, Stability, stability_selection
from ..inference import bootstrap as bootstrap_axes
from ..inference import permutation_test as permute
from ..validate import certify_together

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What :func:`flda.tl.flda` fitted: expression of the labelled cells, and the parameters of the estimator.

    ``cells`` and ``genes`` are boolean, over those of the AnnData.
    """

    X: Any
    labels: pd.DataFrame
    donors: np.ndarray | None
    cells: np.ndarray
    genes: np.ndarray
    params: dict[str, Any]
    shrinkage: float

    @classmethod
    def read(cls, adata: AnnData, key: str, *, evidence: bool = True) -> Fitted:
        """From the results in ``adata``. What says how far to believe a fit needs ``evidence``: real cells only."""
        results = get.results(adata, key)
        made = _anndata.augmented(adata)
        if evidence and made.any():
            raise ValueError(
                f"{made.sum()} of {len(made)} cells are simulated (obs[{_anndata.AUGMENTED!r}]) and are no evidence: "
                f"fit the real cells, adata[~adata.obs[{_anndata.AUGMENTED!r}]], or score real cells that were kept "
                "out of the augmentation with flda.tl.transform."
            )
        params = _anndata.plain(results["params"])
        device = _device_of(params)
        with quiet():
            cells = _anndata.read_cells(
                adata, params["factors"], params["nuisance"], params["donor"], params["layer"], device
            )
        genes = _anndata.in_memory(adata.var)[Keys(key).var_sd].notna().to_numpy()
        rows = cells.labelled
        X = cells.X if rows.all() else cells.X[rows]
        donors = None if cells.donors is None else cells.donors[rows].to_numpy()
        return cls(
            X if genes.all() else X[:, genes], cells.labels[rows], donors, rows, genes, params,
            float(results["fit"]["shrinkage"]),
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        """Arguments of the estimator, with the shrinkage setting, not its value."""
        return {
            "interactions": self.params["interactions"],
            "nuisance": self.params["nuisance"],
            "n_components": self.params["n_comps"],
            "penalty": self.params["penalty"],
            "shrinkage": self.params["shrinkage"],
            "random_state": self.params["random_state"],
        }

    def sparse(self, selection: dict[str, Any], **options: Any) -> SparseFLDA:
        """The estimator of :func:`flda.tl.rank_genes`."""
        return SparseFLDA(
            n_genes=selection["n_genes"],
            mode=selection["mode"],
            candidates=np.asarray(selection["candidates"], dtype=bool)[self.genes],
            **{**self.options(), **options},
        )


def _device_of(params: dict[str, Any]) -> str:
    """The device of the fit if it is here: results of a machine with a GPU may be read on one without."""
    device = params.get("device", "cpu")
    try:
        require(device)
    except (ImportError, NoDevice) as error:
        logger.warning("this fit was made on a GPU; the CPU goes on (%s)", error)
        return "cpu"
    return device


def selection_of(adata: AnnData, key: str) -> dict[str, Any] | None:
    """Parameters of the last :func:`flda.tl.rank_genes`, or None."""
    found = get.results(adata, key).get("selection")
    if found is None:
        return None
    candidates = np.asarray(found["candidates"], dtype=bool)
    return {**_anndata.plain({k: v for k, v in found.items() if k != "candidates"}), "candidates": candidates}


def certify(
    adata: AnnData,
    *,
    n_folds: int = 5,
    n_repeats: int = 1,
    random_state: int = 0,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Certify every axis on held-out cells, or donors: signal, cross-talk and accuracy.

    Refits the model of :func:`flda.tl.flda` and, after :func:`flda.tl.rank_genes`, that of the selected genes in every
    fold, tuning and selection included. See :func:`flda.validate.certify`.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`. If it was given a donor, whole donors are held out.
    n_folds, n_repeats, random_state
        Folds, how often cells are dealt anew, seed.
    key
        The ``key_added`` of the fit.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy. Writes ``uns["flda"]["certificate"]``, a DataFrame with a row per axis for ``genes`` ``"all"``
    and ``"selected"``; read it with :func:`flda.get.certificate_df`.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.certify(adata)
    >>> bool(flda.get.certificate_df(adata).loc[0, "accuracy"] > 0.9)
    True
    """
    start = time.perf_counter()
    fitted, selection = Fitted.read(adata, key), selection_of(adata, key)
    models: dict[str, FLDA] = {"all": FLDA(**fitted.options())}
    if selection is not None:
        models["selected"] = fitted.sparse(selection)
    with quiet():
        table = certify_together(
            models, fitted.X, fitted.labels, fitted.donors,
            n_folds=n_folds, n_repeats=n_repeats, random_state=random_state,
        )  # fmt: skip
    adata = adata.copy() if copy else adata
    _write(adata, key, certificate=_savable(table))
    logger.info("certify: wrote uns[%r]['certificate'] (%.1f s)", key, time.perf_counter() - start)
    return adata if copy else None


def permutation_test(
    adata: AnnData,
    *,
    effects: str | Sequence[str] | None = None,
    n_perms: int = 999,
    random_state: int = 0,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """Permutation p-values of every effect, and of every gene for each effect.

    See :func:`flda.inference.permutation_test` for what is permuted. If :func:`flda.tl.flda` was given a donor, factors
    that vary between donors are tested by exchanging donors.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda`.
    effects
        Effects to test, e.g. ``["dendrite"]``; None for all that can be.
    n_perms, random_state, n_jobs
        Permutations per effect, seed, number of threads.
    key
        The ``key_added`` of the fit.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy. Writes

    * ``uns["flda"]["permutation"]``: ``table``, a row per effect, and ``null``, the statistic under every permutation
    * ``varm["flda_pval"]``, ``varm["flda_pval_adj"]``, ``varm["flda_pval_max"]``: p-values of each gene, false
      discovery rate and family-wise, p x effects with axes; NaN for genes and effects that were not tested

    Raises
    ------
    ValueError
        For an effect between donors with fewer than three donors in a level, and data that are too large.

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.permutation_test(adata, n_perms=19)
    >>> adata.uns["flda"]["permutation"]["table"]["pval"].tolist()[0]
    0.05
    """
    start = time.perf_counter()
    result = run_permutations(Fitted.read(adata, key), effects, n_perms, random_state, n_jobs)
    adata = adata.copy() if copy else adata
    write_permutations(adata, key, result)
    logger.info(
        "permutation_test: wrote uns[%r]['permutation'], varm['%s_pval'] (%.1f s)",
        key, key, time.perf_counter() - start,
    )  # fmt: skip
    return adata if copy else None


def stability(
    adata: AnnData,
    *,
    n_halves: int = 50,
    n_boots: int = 200,
    random_state: int = 0,
    n_jobs: int | None = None,
    key: str = "flda",
    copy: bool = False,
) -> AnnData | None:
    """How often halves of the cells (donors) select each gene, and intervals for loadings and scores.

    See :func:`flda.inference.stability_selection` and :func:`flda.inference.bootstrap`. The shrinkage is that of the
    fit.

    Parameters
    ----------
    adata
        With the results of :func:`flda.tl.flda` and :func:`flda.tl.rank_genes`. If the fit was given a donor, halves
        and resamples take whole donors.
    n_halves, n_boots
        Number of halves, and of resamples for the intervals (0 for none).
    random_state, n_jobs
        Seed, number of threads.
    key
        The ``key_added`` of the fit.
    copy
        Return a copy with the results instead of writing into ``adata``.

    Returns
    -------
    None, or the copy. Writes ``uns["flda"]["stability"]``:

    * ``genes``: DataFrame ``effect, gene, frequency, expected_false``, most frequent first
    * ``loadings``: ``axis, gene, loading, lower, upper``, and ``scores``: ``axis``, levels, ``score, lower, upper`` of
      group means; 95 % bootstrap intervals given the selected genes
    * ``params``: ``n_halves, n_boots, unit`` (cell or donor), ``random_state``

    Examples
    --------
    >>> import flda
    >>> adata = flda.datasets.t4t5_simulated(n_obs=400, n_vars=100)
    >>> flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    >>> flda.tl.rank_genes(adata, n_genes=5)
    >>> flda.tl.stability(adata, n_halves=4, n_boots=20)
    >>> bool(flda.get.rank_genes_df(adata)["frequency"].max() > 0.5)
    True
    """
    start = time.perf_counter()
    selection = selection_of(adata, key)
    if selection is None:
        raise ValueError("no genes are selected yet; run flda.tl.rank_genes first.")
    found = run_stability(Fitted.read(adata, key), selection, n_halves, n_boots, random_state, n_jobs)
    adata = adata.copy() if copy else adata
    write_stability(adata, key, found, n_boots, random_state)
    logger.info("stability: wrote uns[%r]['stability'] (%.1f s)", key, time.perf_counter() - start)
    return adata if copy else None


def run_permutations(
    fitted: Fitted, effects: str | Sequence[str] | None, n_perms: int, random_state: int, n_jobs: int | None
) -> PermutationTest:
    """The test of a fit; nothing is written."""
    effects = [effects] if isinstance(effects, str) else effects
    return permute(
        FLDA(**fitted.options()), fitted.X, fitted.labels, fitted.donors,
        effects=effects, n_perms=n_perms, random_state=random_state, n_jobs=n_jobs,
    )  # fmt: skip


def write_permutations(adata: AnnData, key: str, result: PermutationTest) -> None:
    """Into ``uns`` and ``varm``."""
    keys = Keys(key)
    results = get.results(adata, key)
    effects = list(dict.fromkeys(results["axes"]["effect"]))
    genes = np.flatnonzero(_anndata.in_memory(adata.var)[keys.var_sd].notna().to_numpy())
    for column in ("pval", "pval_adj", "pval_max"):
        values = np.full((adata.n_vars, len(effects)), np.nan)
        for effect, part in result.genes.groupby("effect", sort=False):
            values[genes[part["gene"]], effects.index(effect)] = part[column]
        adata.varm[f"{key}_{column}"] = values
    _write(adata, key, permutation={"table": _savable(result.table), "null": result.null})


def run_stability(
    fitted: Fitted, selection: dict[str, Any], n_halves: int, n_boots: int, random_state: int, n_jobs: int | None
) -> tuple[Stability, Bootstrap | None]:
    """Halves and resamples of a fit; nothing is written."""
    model = fitted.sparse(selection, shrinkage=fitted.shrinkage)
    X, labels, donors = fitted.X, fitted.labels, fitted.donors
    halves = stability_selection(model, X, labels, donors, n_halves=n_halves, random_state=random_state, n_jobs=n_jobs)
    if not n_boots:
        return halves, None
    with quiet():
        model.fit(X, labels, donors)
    return halves, bootstrap_axes(model, X, labels, donors, n_boots=n_boots, random_state=random_state)


def write_stability(
    adata: AnnData, key: str, found: tuple[Stability, Bootstrap | None], n_boots: int, random_state: int
) -> None:
    """Into ``uns``; places of genes become names."""
    halves, boots = found
    names = adata.var_names.to_numpy()[_anndata.in_memory(adata.var)[Keys(key).var_sd].notna().to_numpy()]

    def named(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(gene=names[table["gene"]])

    slot: dict[str, Any] = {
        "genes": named(halves.genes),
        "params": {
            "n_halves": halves.n_halves,
            "n_boots": n_boots if boots is None else boots.n_boots,
            "unit": halves.unit,
            "random_state": random_state,
        },
    }
    if boots is not None:
        slot["loadings"], slot["scores"] = named(boots.loadings), _savable(boots.scores)
    _write(adata, key, stability=slot)


def _write(adata: AnnData, key: str, **slots: Any) -> None:
    with warnings.catch_warnings():
        # writing into a view makes it a real object, which is what the caller asked for
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.uns[Keys(key).uns].update(slots)


def _savable(table: pd.DataFrame) -> pd.DataFrame:
    """Columns that every AnnData file format can hold: levels as text, no slash in a name."""
    text = {c: table[c].astype(str) for c in table if isinstance(table[c].dtype, pd.CategoricalDtype)}
    return table.assign(**text).rename(columns=lambda c: c.replace("/", "_"))
