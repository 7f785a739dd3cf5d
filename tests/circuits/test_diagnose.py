"""Reports of driven and silent units."""

import numpy as np

from flda.circuits import circuit_notes, simulate, unit_report
from flda.circuits._diagnose import silent_facts

from circuit_problems import small


def test_driven_units_are_distinguished_from_silent_ones():
    retina = simulate.retina_circuit("2", n_kernels=3)
    smooth, white = (retina.sample(400, stimulus=s, random_state=0)[0] for s in ("smooth", "white"))
    driven, silent = (unit_report(retina.model, retina.truth, X) for X in (smooth, white))
    true = retina.truth["bipolar->amacrine"].any(axis=0)
    assert (driven.loc[true, "active"] > 0.2).all()
    assert driven["output_share"].sum() > 0.3
    assert (silent.loc[true, "active"] < 0.02).all()
    assert silent["output_share"].sum() < 0.01
    rare, weak = circuit_notes(retina.model, retina.truth, white, silent)
    assert "4 of 4 amacrine units with synapses" in rare
    assert f"{silent['output_share'].sum():.2%}" in weak
    X = smooth.copy()
    X[:, 5] = 0
    assert not circuit_notes(retina.model, retina.truth, X, unit_report(retina.model, retina.truth, X))
    inputs, units = silent_facts(retina.model, X, {"amacrine": np.arange(3)})
    assert inputs.startswith("1 of 300 bipolar units (5) are zero")
    assert units.startswith("3 of 25 amacrine units (0, 1, 2)")


def test_output_share_against_variance_by_hand():
    model, w, X = small(skip=False)
    hidden = np.maximum(2 * X @ w["in->hidden"], 0)
    y = hidden @ w["hidden->out"]
    expected = (hidden * w["hidden->out"].T).var(axis=0) / y.var()
    np.testing.assert_allclose(unit_report(model, w, X)["output_share"], expected)
