"""Wiring as phenotype: types grouped by their inputs and outputs, as factors for FLDA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage

from ..._design.make import make_design
from ._profiles import MIN_TYPES, centred, check_matrix, profiles


def phenotypes_from_connectivity(
    matrix: pd.DataFrame,
    types: Sequence[str],
    *,
    inputs: int | None = 2,
    outputs: int | None = 2,
    n_components: int = 2,
    within: bool = False,
) -> pd.DataFrame:
    """Derive factors for FLDA from a connectome, by grouping types with similar inputs and with similar outputs.

    Profiles are clustered by Ward's criterion into the given number of levels, and summarised by principal components.
    Join the result to ``adata.obs`` by type, and pass the factors ``inputs`` and ``outputs`` to :func:`flda.tl.flda`:
    its axes are then gene programmes of types with similar wiring. Clustering always returns clusters; look at the
    scores to judge whether the wiring really has them.

    Parameters
    ----------
    matrix
        Connectivity: presynaptic types (rows) x postsynaptic types (columns). Strong partners count most; to change
        this, pass square roots or shares.
    types
        Types to group.
    inputs, outputs
        Number of levels of each factor; None leaves the factor out.
    n_components
        Number of principal components per direction; at most the number of types minus one.
    within
        Whether to include connections among the types themselves.

    Returns
    -------
    DataFrame
        One row per type, with categorical columns ``inputs`` (``in1``, ``in2``, ...) and ``outputs`` (``out1``, ...),
        numbered in the order of ``types``, and principal component scores ``inputs_pc1``, ..., ``outputs_pc1``, ... in
        the units of the matrix.

    Raises
    ------
    ValueError
        If the matrix lacks types, a type has no connections, there are fewer than 4 types or more levels than types,
        or the two factors are nested or confounded, so that FLDA could not separate their effects.

    References
    ----------
    Ward JH. Hierarchical grouping to optimize an objective function. J. Am. Stat. Assoc. 58:236 (1963).

    Examples
    --------
    >>> import pandas as pd
    >>> from flda.circuits import phenotypes_from_connectivity
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
        raise ValueError(f"type {names[names.duplicated()][0]!r} is listed twice in types; keep one.")
    if len(names) < MIN_TYPES:
        raise ValueError(f"{len(names)} types are too few to compare their wiring; use {MIN_TYPES} or more.")
    if inputs is None and outputs is None:
        raise ValueError("inputs and outputs are both None; give the number of levels of at least one of them.")
    factors, scores = {}, {}
    for direction, prefix, levels in (("inputs", "in", inputs), ("outputs", "out", outputs)):
        if levels is None:
            continue
        if not 2 <= levels <= len(names):
            raise ValueError(f"{direction}={levels} must lie between 2 and {len(names)}, the number of types.")
        G = centred(profiles(matrix, names, direction, within=within).to_numpy(), f"the {direction}")
        # factorize numbers the clusters in the order in which the types list them
        found = pd.factorize(fcluster(linkage(G, "ward"), levels, "maxclust"))[0]
        n_found = int(found.max()) + 1
        if n_found < levels:
            raise ValueError(
                f"{direction}={levels} is too many: the profiles form only {n_found} clusters; lower {direction}."
            )
        factors[direction] = pd.Categorical.from_codes(found, [f"{prefix}{i + 1}" for i in range(levels)])
        u, s, _ = np.linalg.svd(G, full_matrices=False)
        for k in range(min(n_components, len(names) - 1, len(s))):
            column = u[:, k] * s[k]  # the sign of a component is arbitrary: its largest score is made positive
            scores[f"{direction}_pc{k + 1}"] = column * (1.0 if column[np.abs(column).argmax()] >= 0 else -1.0)
    table = pd.DataFrame(factors, index=names.rename("type"))
    make_design(
        table.reset_index(drop=True), interactions=None, error="within"
    )  # raises if FLDA could not separate the effects
    return table.assign(**scores)
