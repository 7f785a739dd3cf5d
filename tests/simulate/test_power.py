import numpy as np
import pandas as pd
import pytest

import flda
from flda.cli import main
from flda.simulate._power import _needed

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def pilot():
    return flda.datasets.t4t5_simulated(320, 80)


@pytest.fixture(scope="module")
def found(pilot):
    return flda.simulate.power(pilot, FACTORS, n_cells=[5, 60], n_studies=4, n_genes=5, shrinkage=0.5)


def test_more_cells_give_purer_axes_and_steadier_genes(found):
    table = found.curves.set_index(["measure", "effect", "n_cells"])["median"]
    for measure in ("purity", "stability"):
        for effect in ("dendrite", "axon"):
            assert table[measure, effect, 60] > table[measure, effect, 5]
    assert table["purity", "dendrite", 60] > 0.9


def test_the_tables_agree_with_each_other(found):
    studies, curves = found.studies, found.curves
    assert studies.groupby(["n_cells", "effect", "measure"]).size().unstack()["purity"].eq(8).all()
    assert studies.groupby(["n_cells", "effect", "measure"]).size().unstack()["stability"].eq(4).all()
    assert studies["value"].between(0, 1).all()
    assert ((curves["lower"] <= curves["median"]) & (curves["median"] <= curves["upper"])).all()
    part = studies.query("n_cells == 60 and effect == 'axon' and measure == 'purity'")["value"]
    row = curves.query("n_cells == 60 and effect == 'axon' and measure == 'purity'").iloc[0]
    assert row["lower"] == pytest.approx(np.quantile(part, 0.05, method="weibull"))
    assert len(found.needed) == 6
    assert set(found.needed["target"]) == {0.9, 0.7}


def test_the_same_seed_gives_the_same_curves(pilot):
    options = {"n_cells": [5], "n_studies": 2, "n_genes": 5, "shrinkage": 0.5}
    one, again, other = (flda.simulate.power(pilot, FACTORS, random_state=r, **options) for r in (0, 0, 1))
    pd.testing.assert_frame_equal(again.studies, one.studies)
    assert not np.allclose(other.curves["median"], one.curves["median"])


def test_an_absent_effect_has_no_pure_axis(pilot):
    model = flda.simulate.fit_counts(pilot, FACTORS)
    for effect in ("axon", "dendrite:axon"):
        model = model.plant(effect, np.arange(80), 0.0)
    data = model.sample(40, random_state=7)
    found = flda.simulate.power(data, FACTORS, n_cells=[30], n_studies=4, n_genes=5, shrinkage=0.5)
    median = found.curves.query("measure == 'purity'").set_index("effect")["median"]
    assert median["dendrite"] > 0.9
    assert median["dendrite:axon"] < 0.5


def test_the_fewest_cells_are_those_from_which_on_the_target_is_kept():
    value = {
        10: [0.9, 0.9, 0.9, 0.9, 0.9],
        20: [0.9, 0.1, 0.1, 0.9, 0.9],
        50: [0.9, 0.9, 0.9, 0.9, 0.2],
        100: [0.9] * 5,
    }
    rows = [
        {"n_donors": 0, "effect": "A", "measure": "purity", "n_cells": n, "value": v}
        for n, vs in value.items()
        for v in vs
    ]
    rows += [{"n_donors": 0, "effect": "A", "measure": "stability", "n_cells": n, "value": 0.1} for n in value]
    table = _needed(pd.DataFrame(rows), {"purity": 0.8, "stability": 0.5}, 0.8).set_index("measure")["n_cells"]
    assert table["purity"] == 50
    assert np.isnan(table["stability"])


def test_donors_of_a_factor_between_them_are_new_and_keep_one_level(pilot):
    data = pilot.copy()
    data.obs["treatment"] = np.where(data.obs["donor"].isin(["donor1", "donor2"]), "drug", "none")
    from flda.simulate._power import _cells

    model = flda.simulate.fit_counts(data, ["treatment", "dendrite"], donor="donor")
    cells = _cells(model, 6, 3, 0, "study")
    levels = cells.obs.groupby("donor")["treatment"].nunique()
    assert (levels == 1).all()
    assert len(levels) == 6
    assert (cells.obs.groupby(["treatment", "dendrite"], observed=True).size() == 6).all()
    found = flda.simulate.power(
        data, ["treatment", "dendrite"], donor="donor", n_cells=[12], n_donors=[2, 3], n_studies=2, n_genes=4,
        shrinkage=0.5,
    )  # fmt: skip
    assert sorted(set(found.curves["n_donors"])) == [2, 3]
    pilots_own = flda.simulate.power(
        data, ["treatment", "dendrite"], donor="donor", n_cells=[12], n_studies=2, n_genes=4, shrinkage=0.5
    )
    assert set(pilots_own.curves["n_donors"]) == {2}


def test_figures(found):
    for measure in ("purity", "stability"):
        ax = flda.pl.power(found, measure)
        assert len(ax.lines) == 4
        assert [t.get_text() for t in ax.get_xticklabels()] == ["5", "60"]
    with pytest.raises(ValueError, match="snr"):
        flda.pl.power(found, "snr")


def test_bad_input_is_named(pilot):
    def refuse(name, **options):
        with pytest.raises(ValueError, match=name):
            flda.simulate.power(pilot, **{"factors": FACTORS, "n_studies": 2, **options})

    refuse("'dendrit'.*'dendrite'", factors=["dendrit", "axon"])
    refuse("'gene_", layer=None)
    refuse("n_cells", n_cells=[1, 5])
    refuse("n_donors.*donor", n_donors=[3])
    refuse("n_donors.*5", n_cells=[5, 50], n_donors=[8], donor="donor")
    refuse("n_studies=1", n_studies=1)
    refuse("purity=1.5", purity=1.5)
    refuse("n_genes=500.*80", n_genes=500)


def test_command_line(pilot, tmp_path, capsys):
    file, out = tmp_path / "pilot.h5ad", tmp_path / "plan"
    pilot.write_h5ad(file)
    sizes = ["--n-cells", "5", "20", "--studies", "2", "--n-genes", "4"]
    command = ["power", str(file), "--factors", *FACTORS, "--interactions", "none", *sizes, "--out", str(out)]
    assert main(command) == 0
    assert {p.name for p in out.iterdir()} == {"needed.csv", "power.csv", "purity.png", "stability.png", "summary.json"}
    assert "cells per group" in capsys.readouterr().out
    table = pd.read_csv(out / "power.csv")
    assert set(table["effect"]) == set(FACTORS)
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["power", str(file), "--factors", "dendrites", "--out", str(tmp_path / "no")]) == 2
    assert "'dendrite'" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_studies_are_fitted_with_numbers_contrasts_and_covariates(pilot):
    pilot = pilot[:, 20:60].copy()
    pilot.obs["dose"] = pilot.obs["axon"].cat.codes.astype(float)
    pilot.obs["age"] = np.random.default_rng(0).normal(size=pilot.n_obs)
    pair = {"top in T4": ({"dendrite": "T4", "dose": 3.0}, {"dendrite": "T4", "dose": 0.0})}
    found = flda.simulate.power(
        pilot, ["dendrite", "dose"], n_cells=[15], n_studies=2, n_genes=3, shrinkage=0.5, nuisance=["age"],
        numeric=["dose", "age"], contrasts=pair,
    )  # fmt: skip
    assert found.needed["effect"].unique().tolist() == ["dendrite", "dose.linear", "dendrite:dose.linear", "top in T4"]
    assert found.studies["value"].between(0, 1).all()
    purity = found.curves.query("measure == 'purity'").set_index("effect")["median"]
    assert purity["dendrite"] > 0.5  # groups and covariates beside it do not hide it
