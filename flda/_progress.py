"""Progress bars that appear on a terminal or in a notebook after one second of work, and never in pipes or logs.

Loops that take long go through :func:`each`, which shows a bar and can use several threads.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import TypeVar

from joblib import Parallel, delayed, effective_n_jobs
from tqdm.auto import tqdm

from ._data.threads import one_blas_thread

T = TypeVar("T")
R = TypeVar("R")

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


def each(
    function: Callable[[T], R], items: Iterable[T], *, desc: str, n_jobs: int | None = None, total: int | None = None
) -> Iterator[R]:
    """Yield the results of a function for all items, in their order, and count them on a progress bar.

    Parameters
    ----------
    function
        What is called, in a thread. It sees the context of the caller, so that what is quiet there is quiet here.
    items
        The items, which are taken in order, by one thread at a time.
    desc, total
        As in :func:`progress`.
    n_jobs
        Number of threads, as in joblib.

    Examples
    --------
    >>> list(each(abs, [-1, 2, -3], desc="absolute values", n_jobs=2))
    [1, 2, 3]
    """
    context = contextvars.copy_context()
    run = Parallel(n_jobs=n_jobs, return_as="generator", prefer="threads")
    results = run(delayed(context.copy().run)(function, item) for item in items)
    with one_blas_thread() if effective_n_jobs(n_jobs) > 1 else nullcontext():
        yield from progress(results, desc=desc, total=total)
