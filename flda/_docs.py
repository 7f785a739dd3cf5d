"""Paragraphs that the docstrings of several functions share."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable)

PARAGRAPHS = {
    "adata": """
        adata
            AnnData with the results of :func:`flda.tl.flda`.
        """,
    "adata_ranked": """
        adata
            AnnData with the results of :func:`flda.tl.flda` and :func:`flda.tl.rank_genes`.
        """,
    "adata_tested": """
        adata
            AnnData with the results of :func:`flda.tl.flda` and :func:`flda.tl.effect_tests`.
        """,
    "not_fitted": """
        Raises
        ------
        ValueError
            If :func:`flda.tl.flda` has not run.
        """,
    "key": """
        key
            The ``key_added`` of the fit.
        """,
    "copy": """
        copy
            Return a copy with the results instead of writing into ``adata``.
        """,
    "random_state": """
        random_state
            Seed; the same seed gives the same results.
        """,
    "n_jobs": """
        n_jobs
            Number of threads, as in joblib. The results do not depend on it.
        """,
    "folds": """
        n_folds
            The largest number of folds. Fewer are used if a fold would hold out less than two cells (donors) of a
            group.
        n_repeats
            Number of times that the cells are assigned to folds.
        """,
    "ax": """
        ax
            matplotlib Axes to draw on; by default those of a new figure.
        """,
    "shown": """
        show
            Whether to call ``matplotlib.pyplot.show``. A notebook shows the figure anyway.
        save
            Path of a file to write the figure to; its suffix gives the format.
        """,
    "axis": """
        axis
            Name of an axis, such as ``"dendrite_1"``; by default the first axis.
        """,
}


def documented(function: F) -> F:
    """Fill in the shared paragraphs of a docstring: each line that holds ``{name}`` alone.

    Examples
    --------
    >>> import inspect
    >>> def area(radius, random_state=0):
    ...     '''Estimate an area.
    ...
    ...     {random_state}
    ...     '''
    >>> print(inspect.getdoc(documented(area)))
    Estimate an area.
    <BLANKLINE>
    random_state
        Seed; the same seed gives the same results.
    """

    def paragraph(line: re.Match[str]) -> str:
        return textwrap.indent(textwrap.dedent(PARAGRAPHS[line[2]]).strip(), line[1])

    if function.__doc__ is not None:  # python -OO removes docstrings; Python 3.13 removes their indentation
        function.__doc__ = re.sub(r"^( *)\{(\w+)\}$", paragraph, function.__doc__, flags=re.MULTILINE)
    return function
