"""BLAS threads: work on small or thin matrices is faster with one.

NumPy and SciPy bring a BLAS each, with threads of its own. A thread that has finished waits busily for more work, so on
a machine with few cores the threads of one BLAS get in the way of those of the other. A factorisation of a thin
matrix, which consists of many small products, then takes several times as long as with one thread.
"""

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Return a context in which every BLAS uses one thread.

    The number of threads is one setting of the whole process, which threads of Python would change under each other. So
    only the main thread changes it, and the context of another thread does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _controller().limit(limits=1, user_api="blas")


@cache  # the search for the loaded libraries takes milliseconds
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
