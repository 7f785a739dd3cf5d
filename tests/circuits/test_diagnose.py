"""Reports of driven and silent units."""

import numpy as np

from flda.circuits import circuit_notes, simulate, unit_report

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
    assert "25 of 25 amacrine" in rare
    assert f"{silent['output_share'].sum():.2%}" in weak
    X = smooth.copy()
    X[:, 5] = 0
    first = circuit_notes(retina.model, retina.truth, X, unit_report(retina.model, retina.truth, X))[0]
    assert "1 bipolar" in first
    assert "(5)" in first


def test_output_share_against_variance_by_hand():
    model, w, X = small(skip=False)
    hidden = np.maximum(2 * X @ w["in->hidden"], 0)
    y = hidden @ w["hidden->out"]
    expected = (hidden * w["hidden->out"].T).var(axis=0) / y.var()
    np.testing.assert_allclose(unit_report(model, w, X)["output_share"], expected)
