"""Checks before the work: can an AnnData hold the results, and would they replace anything else."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from anndata import AnnData

from .read import AUGMENTED, in_memory
from .storable import storable

OWN = "flda"  # a key that begins so is taken for our own, whatever is left of its slots
MOST_SEED = 2**32 - 1  # the largest seed that every generator takes


def check_adata(adata: Any) -> None:
    """Refuse what is no AnnData."""
    if isinstance(adata, AnnData):
        return
    kind = type(adata).__name__
    ways = {
        "AnnCollection": "adata.to_adata() gives one; its X stays on disk in the parts, so read the parts you need",
        "MuData": "give one modality, such as mdata['rna']",
        "SpatialData": "give its table, such as sdata.tables['table']",
        "Raw": "adata.raw.to_adata() gives one",
        "DataFrame": "flda.FLDA takes matrices and data frames",
        "ndarray": "flda.FLDA takes matrices and data frames",
    }
    way = ways.get(kind, "read the file first, for example with anndata.read_h5ad" if kind == "str" else "")
    raise ValueError(f"adata must be an AnnData; got {kind}{f' ({way})' if way else ''}.")


def check_writable(adata: AnnData, *, copy: bool) -> None:
    """Refuse a backed AnnData whose part, or copy, would have to hold results."""
    if adata.isbacked and (copy or adata.is_view):
        part = "a copy" if copy else "a part"
        raise ValueError(f"{part} of a backed AnnData cannot hold results; call adata.to_memory() first.")


def check_name(name: Any) -> None:
    """Refuse a key that a file cannot hold."""
    if not isinstance(name, str) or not name.strip() or "/" in name or name in (".", ".."):
        raise ValueError(f"the key {name!r} cannot be stored in a file; give a text without a slash.")


def check_seed(random_state: Any) -> None:
    """Refuse a random_state that cannot be stored with the results, or that is no seed."""
    if random_state is None:
        return
    if isinstance(random_state, Integral) and not isinstance(random_state, bool):
        if 0 <= int(random_state) <= MOST_SEED:
            return
        raise ValueError(f"random_state={random_state!r}: use an integer from 0 to 2**32 - 1, or None.")
    raise ValueError(
        f"random_state is a {type(random_state).__name__}, which cannot be stored with the results; give an integer "
        "or None."
    )


def check_storable(params: Mapping[str, Any]) -> None:
    """Refuse parameters that cannot be stored with the results."""
    for name, value in params.items():
        try:
            storable(value)
        except TypeError as error:
            raise ValueError(f"{name}={value!r} cannot be used: {error}. Give text, numbers or None.") from None


def is_fit(value: Any) -> bool:
    """Whether an entry of ``uns`` holds the results of :func:`flda.tl.flda`."""
    return isinstance(value, Mapping) and {"params", "axes", "fit"} <= set(value)


def ranking_params(value: Any) -> Mapping[str, Any] | None:
    """The parameters of a ranking in scanpy's form that this package made, or None for anything else."""
    params = value.get("params") if isinstance(value, Mapping) else None
    return params if isinstance(params, Mapping) and params.get("method") == "flda" else None


def check_new_ranking(adata: AnnData, name: str) -> None:
    """Refuse the name of a ranking that would replace a fit, or the results of another tool."""
    check_name(name)
    if is_fit(adata.uns.get(name)):
        raise ValueError(f"key_added={name!r} would replace the results of flda.tl.flda; give another name.")
    if name in adata.uns and ranking_params(adata.uns[name]) is None:
        raise ValueError(
            f"adata.uns[{name!r}] holds something that flda.tl.rank_genes did not write; give another key_added, or "
            "delete it first."
        )


def prediction_name(key: str, factor: str) -> str:
    """Name of the predictions of a factor in ``obs`` and ``obsm``."""
    name = f"{key}_{factor}"
    check_name(name)
    if name == AUGMENTED:
        raise ValueError(f"obs[{name!r}] marks simulated cells; fit the reference with another key_added.")
    if factor == "group":
        raise ValueError(f"obs[{name!r}] holds the groups of a fit; rename the factor 'group' in the reference.")
    return name


def check_new_prediction(adata: AnnData, key: str, factor: str) -> None:
    """Refuse predictions that would replace a column of ``obs`` that they did not write."""
    name = prediction_name(key, factor)
    if name in in_memory(adata.obs) and name not in adata.obsm:
        raise ValueError(
            f"obs[{name!r}] is a column of yours, and the predictions of {factor!r} would replace it; rename it, or "
            "fit the reference with another key_added."
        )
