"""The script for the GPU: what counts as equal, and what it leaves behind when a step fails or the time is up."""

import json
import sys

import fake_cupy
import gpu
import numpy as np
import pytest
from gpu_equality import EQUAL, Unequal, check, largest


@pytest.fixture
def run(tmp_path, monkeypatch):
    fake_cupy.install(monkeypatch)
    return gpu.Run(tmp_path / "out", gpu.SMALL, seconds=1000, dry=False)


def test_differences_that_are_refused():
    axes = np.eye(2, 5)
    turned = axes.copy()
    turned[0, 1] = 1e-2  # 1 - cos is half of its square
    assert largest({"axes": axes * 3}, {"axes": axes}) == 0
    assert largest({"axes": turned}, {"axes": axes}) == pytest.approx(5e-5, rel=1e-2)
    assert largest({"eigenvalues": np.array([2.0, 1 + 4e-6])}, {"eigenvalues": np.array([2.0, 1.0])}) > EQUAL
    for odd in (np.nan, np.inf):
        other = np.array([odd, 1.0])
        assert largest({"F": other}, {"F": np.array([1.0, 1.0])}) == np.inf
        assert largest({"F": np.array([1.0, 1.0])}, {"F": other}) == np.inf
        assert largest({"n_distinct": other}, {"n_distinct": other}) == 0
    check([{"case": "x", "sent: difference": EQUAL}])
    for wrong in (2 * EQUAL, np.inf, np.nan):
        with pytest.raises(Unequal, match="there"):
            check([{"case": "x", "there: difference": wrong}])


def test_results_stay_when_a_step_fails(run):
    def unequal(run):
        yield {"case": "first", "difference": 0.0}
        raise Unequal("too far")

    run.step("P1", unequal)
    run.step("P5", lambda run: [{"s": 1.5}])
    assert run.status == 1
    left = json.loads((run.out / "gpu.json").read_text())
    assert left["P1"]["rows"] == [{"case": "first", "difference": 0.0}]
    assert "too far" in left["P1"]["failed"]
    assert left["P5"]["rows"] == [{"s": 1.5}]
    assert "| first | 0 |" in (run.out / "gpu.md").read_text()


def test_a_step_without_time_is_left_out(run):
    run.step("P5", lambda run: [])
    assert run.status == 0
    run.seconds = 0
    run.step("P7", lambda run: 1 / 0)
    assert run.status == 2
    assert "left out" in json.loads((run.out / "gpu.json").read_text())["P7"]


@pytest.mark.slow
def test_the_dry_run_takes_the_whole_path(tmp_path, monkeypatch):
    steps = [name for name in gpu.STEPS if name != "tests"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry-run", "--out", str(tmp_path), "--steps", *steps])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 0
    assert set(json.loads((tmp_path / "gpu.json").read_text())) == {"machine", *steps}
