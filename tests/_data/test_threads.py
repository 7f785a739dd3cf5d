"""One BLAS thread for thin work, and the number of before afterwards."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from flda._data.threads import one_blas_thread
from flda._progress import each


def of_blas(_=None):
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def three_threads():
    with threadpool_limits(3, user_api="blas"):
        yield
        assert of_blas() == {3}


def test_the_number_of_before_is_restored():
    with one_blas_thread(), one_blas_thread():
        assert of_blas() == {1}
    assert of_blas() == {3}
    with pytest.raises(ValueError), one_blas_thread():
        raise ValueError


def test_other_threads_leave_the_number_as_it_is():
    def work(_):
        with one_blas_thread():
            return of_blas()

    with ThreadPoolExecutor(4) as pool:
        assert all(seen == {3} for seen in pool.map(work, range(20)))


@pytest.mark.parametrize(("n_jobs", "expected"), [(None, {3}), (1, {3}), (2, {1})])
def test_jobs_in_parallel_have_one_thread_each(n_jobs, expected):
    assert list(each(of_blas, range(3), desc="x", n_jobs=n_jobs)) == [expected] * 3
