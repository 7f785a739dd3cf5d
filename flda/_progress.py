"""Progress bars that appear on a terminal or in a notebook after one second of work, and never in pipes or logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

DELAY = 1.0  # seconds before a bar appears; work that takes less shows none


def progress(iterable: Iterable[T], *, desc: str, total: int | None = None) -> Iterator[T]:
    """Yield the items of ``iterable`` and count them on a progress bar, which vanishes when the work is done.

    Parameters
    ----------
    iterable
        The items to loop over.
    desc
        The text in front of the bar, such as ``"certificate"``.
    total
        The number of items, needed where ``len(iterable)`` is unknown.

    Examples
    --------
    >>> [n for n in progress(range(3), desc="counting")]
    [0, 1, 2]
    """
    # disable=None means that there is no bar where standard error is not a terminal
    yield from tqdm(iterable, desc=desc, total=total, disable=None, delay=DELAY, leave=False)
