"""Wiring as phenotype: types grouped by whom they listen to and whom they talk to, as factors for FLDA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from ..._design.design import make_design
from ._decompose import centred
from ._profiles import MIN_TYPES, check_matrix, profiles


def phenotypes_from_connectivity(
    matrix: pd.DataFrame,
    types: Sequence[str],
    *,
    inputs: int | None = 2,
    outputs: int | None = 2,
    n_components: int = 2,
    within: bool = False,
) -> pd.DataFrame:
    """Factors for :func:`flda.tl.flda` from a connectome: classes of types with similar inputs or outputs.

    Profiles are clustered by Ward's criterion into the given number of levels, and embedded by principal components.
    Join the result to ``obs`` by type, and the factors ``inputs`` and ``outputs`` go into :func:`flda.tl.flda`; axes
    are then gene programmes of being wired alike. Clusters are always found: whether wiring has them, the scores show.

    Parameters
    ----------
    matrix
        Connectivity, presynaptic types (rows) x postsynaptic types. Strong partners weigh most; give square roots or
        shares to weigh them otherwise.
    types
        Types to describe.
    inputs, outputs
        Levels of either factor; None leaves it out.
    n_components
        Scores per direction, at most one less than there are types.
    within
        Count connections among the types themselves too.

    Returns
    -------
    DataFrame by type: categorical ``inputs`` (``in1``, ``in2``, ...) and ``outputs`` (``out1``, ...), numbered in the
    order of ``types``, and scores ``inputs_pc1``, ..., ``outputs_pc1``, ... in the units of the matrix.

    Raises
    ------
    ValueError
        For types that the matrix lacks, types without connections, fewer than 4 types, more levels than types, and
        factors that are nested or confounded, which FLDA could not tell apart.

    Examples
    --------
    >>> matrix = pd.DataFrame(
    ...     [[9.0, 0, 9, 0, 0, 0], [0, 9, 0, 9, 0, 0]], index=["Mi1", "Tm9"], columns=["a", "b", "c", "d", "x", "y"]
    ... )
    >>> matrix = matrix.reindex([*"abcd", "Mi1", "Tm9"], fill_value=0.0)
    >>> matrix.loc[["a", "b"], "x"] = matrix.loc[["c", "d"], "y"] = 5.0
    >>> phenotypes_from_connectivity(matrix, [*"abcd"])[["inputs", "outputs"]].values.tolist()
    [['in1', 'out1'], ['in2', 'out1'], ['in1', 'out2'], ['in2', 'out2']]
    """
    matrix = check_matrix(matrix)
    names = pd.Index(types)
    if not names.is_unique:
        raise ValueError(f"type {names[names.duplicated()][0]!r} is listed twice.")
    if len(names) < MIN_TYPES:
        raise ValueError(f"{len(names)} types are too few to compare their wiring; {MIN_TYPES} or more are needed.")
    if inputs is None and outputs is None:
        raise ValueError("inputs and outputs are both None: no factor is left.")
    factors, scores = {}, {}
    for direction, prefix, levels in (("inputs", "in", inputs), ("outputs", "out", outputs)):
        if levels is None:
            continue
        if not 2 <= levels <= len(names):
            raise ValueError(f"{direction}={levels}: {len(names)} types can be grouped into 2 to {len(names)} levels.")
        G = centred(profiles(matrix, names, direction, within=within).to_numpy(), f"{direction} of the types")
        found = pd.factorize(fcluster(linkage(G, "ward"), levels, "maxclust"))[0]
        n_found = int(found.max()) + 1
        if n_found < levels:
            raise ValueError(f"{direction}={levels}: the profiles of the types have only {n_found} distinct levels.")
        factors[direction] = pd.Categorical.from_codes(found, [f"{prefix}{i + 1}" for i in range(levels)])
        u, s, _ = np.linalg.svd(G, full_matrices=False)
        for k in range(min(n_components, len(names) - 1, len(s))):
            column = u[:, k] * s[k]
            scores[f"{direction}_pc{k + 1}"] = column * (1.0 if column[np.abs(column).argmax()] >= 0 else -1.0)
    table = pd.DataFrame(factors, index=names.rename("type"))
    make_design(table.reset_index(drop=True), interactions=None)  # refuses what FLDA could not tell apart
    return table.assign(**scores)
