"""The circuit benchmark: its grid, and that it continues where it stopped."""

import circuits
import pandas as pd
import pytest


@pytest.mark.parametrize("part", ["targets", "notes", "white", "arms"])
def test_no_fit_is_made_twice_and_the_quick_grid_is_part_of_the_whole(part):
    whole, quick = circuits.jobs(part, False), circuits.jobs(part, True)
    assert len(set(whole)) == len(whole) > len(quick) > 0
    assert set(quick) <= set(whole)
    assert all(len(job) == len(circuits.KEYS) for job in whole)


def test_signs_and_l1_are_in_every_cell_of_the_arms_beside_the_same_without_signs():
    table = pd.DataFrame(circuits.jobs("arms", False), columns=circuits.KEYS)
    arms = table.groupby(["circuit", "kernels", "n", "noise", "seed"])["arm"].agg(set)
    assert arms.map({"signs and L1", "L1"}.issubset).all()
    assert set(table["circuit"]) == set(circuits.CIRCUITS)
    assert set(zip(table["kernels"], table["noise"], strict=True)) == {
        (k, noise) for k in (3, 8, 16, 28) for noise in (0.0, 0.1, 0.3)
    }


def test_a_part_continues_where_it_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(circuits, "OUT", tmp_path)
    made = []

    def fit(job):
        made.append(job["seed"])
        if job["seed"] == 2 and made.count(2) == 1:
            raise KeyboardInterrupt
        return {"value": 10 * job["seed"]}

    grid = [{"noise": 0.1, "seed": seed} for seed in range(4)]
    with pytest.raises(KeyboardInterrupt):
        circuits.recorded("limit", False, grid, fit)
    circuits.recorded("limit", False, grid, fit)
    assert made == [0, 1, 2, 2, 3]
    assert pd.read_csv(tmp_path / "circuits_limit.csv")["value"].tolist() == [0, 10, 20, 30]
