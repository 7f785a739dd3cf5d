"""A small slice of the fuzz."""

import pytest
from fuzz import run


@pytest.mark.parametrize("seed", range(2000, 2012))
def test_a_random_case_holds(seed):
    ends = run(seed)
    assert sum(ends.values()) >= 1
