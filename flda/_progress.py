"""Progress bars: seen on a terminal or in a notebook once work has taken a second, silent in pipes and logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

DELAY = 1.0  # seconds before a bar appears; shorter work shows none


def progress(iterable: Iterable[T], *, desc: str, total: int | None = None) -> Iterator[T]:
    """The items of ``iterable``, counted on a bar that vanishes when the work is done.

    Parameters
    ----------
    iterable
        What to loop over.
    desc
        What the bar counts, e.g. ``"certificate"``.
    total
        Number of items where ``len(iterable)`` is unknown.

    Examples
    --------
    >>> [n for n in progress(range(3), desc="counting")]
    [0, 1, 2]
    """
    # disable=None: no bar where standard error is not a terminal
    yield from tqdm(iterable, desc=desc, total=total, disable=None, delay=DELAY, leave=False)
