import matplotlib.pyplot as plt
import pytest
from fidelity import draw
from fidelity_measures import fidelity

import flda

FACTORS = ["dendrite", "axon"]


@pytest.fixture(scope="module")
def pilot():
    return flda.datasets.t4t5_simulated(400, 100)


@pytest.fixture(scope="module")
def model(pilot):
    return flda.simulate.fit_counts(pilot, FACTORS)


def test_cells_without_overdispersion_are_recognised_and_fitted_ones_are_not(pilot, model, monkeypatch):
    monkeypatch.setattr("fidelity_measures.N_TREES", 40)
    good, bad = (fidelity(pilot, model.sample(variation=v, random_state=1), FACTORS) for v in (1.0, 0.0))
    value = [f.summary.set_index("measure")["value"] for f in (good, bad)]
    auc = "AUC of a random forest, all cells"
    assert value[0][auc] < 0.75
    assert value[1][auc] > value[0][auc] + 0.15
    assert abs(value[0]["median log2 ratio of means"]) < 0.1
    assert abs(value[0]["median log2 ratio of variances"]) < 0.3
    assert value[1]["median log2 ratio of variances"] < -0.5
    assert good.groups["n_real"].sum() == pilot.n_obs
    figure = draw(good)
    assert all(ax.get_ylabel() for ax in figure.axes[:5])
    plt.close(figure)


def test_different_genes_are_refused(pilot, model):
    with pytest.raises(ValueError, match="var_names"):
        fidelity(pilot, model.sample(random_state=1)[:, 1:], FACTORS)
