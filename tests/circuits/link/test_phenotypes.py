"""Factors from wiring."""

import numpy as np
import pytest

import flda
from flda.circuits import phenotypes_from_connectivity

from circuit_problems import PARTNERS, TYPES, planted, random_matrix


def test_phenotypes_are_factors_that_flda_takes(cells):
    matrix = planted(cells, noise=0.05)
    found = phenotypes_from_connectivity(matrix, TYPES, inputs=2, outputs=4)
    assert found["inputs"].tolist() == ["in1"] * 4 + ["in2"] * 4  # the dendrite, read from the wiring
    assert found["outputs"].astype(str).tolist() == ["out1", "out2", "out3", "out4"] * 2  # and the axon
    adata = cells.copy()
    adata.obs = adata.obs.join(found, on="subtype")
    flda.tl.flda(adata, ["inputs", "outputs"], shrinkage=0.5, key_added="wired")
    assert flda.get.axes_df(adata, key="wired")["axis"].tolist()[:2] == ["inputs_1", "outputs_1"]
    G = matrix.loc[PARTNERS, TYPES].T.to_numpy()
    u, s, _ = np.linalg.svd(G - G.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found["inputs_pc1"]), np.abs(u[:, 0] * s[0]))
    assert "outputs" not in phenotypes_from_connectivity(matrix, TYPES, outputs=None)


def test_phenotypes_that_flda_could_not_tell_apart():
    matrix = random_matrix()
    matrix.loc[TYPES, PARTNERS] = matrix.loc[PARTNERS, TYPES].T.to_numpy()  # outputs repeat inputs
    with pytest.raises(ValueError, match="'inputs' and 'outputs'"):
        phenotypes_from_connectivity(matrix, TYPES)
    with pytest.raises(ValueError, match="inputs=9"):
        phenotypes_from_connectivity(matrix, TYPES, inputs=9)
    matrix.loc[PARTNERS, TYPES] = np.repeat(matrix.loc[PARTNERS, ["T4a", "T5a"]].to_numpy(), 4, axis=1)
    with pytest.raises(ValueError, match=r"inputs=3.* 2 "):
        phenotypes_from_connectivity(matrix, TYPES, inputs=3, outputs=None)
    with pytest.raises(ValueError, match="inputs and outputs"):
        phenotypes_from_connectivity(matrix, TYPES, inputs=None, outputs=None)
