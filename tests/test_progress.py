import io
import sys

import pytest

from flda import _progress
from flda._progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "delay", "seen"), [(Terminal, 0, True), (Terminal, 60, False), (io.StringIO, 0, False)]
)
def test_a_bar_is_drawn_on_a_terminal_for_long_work_only(monkeypatch, stream, delay, seen):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(_progress, "DELAY", delay)
    assert list(progress((n for n in range(3)), desc="folds", total=3)) == [0, 1, 2]
    assert ("folds" in sys.stderr.getvalue()) is seen
    if seen:
        assert "3" in sys.stderr.getvalue()
