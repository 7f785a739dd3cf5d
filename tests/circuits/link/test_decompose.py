"""Decomposition and comparison of connectivity: against projectors and enumeration of all relabellings."""

import itertools

import numpy as np
import pandas as pd
import pytest

from flda import datasets
from flda.circuits import compare_connectivity, decompose_connectivity

from circuit_problems import FACTORS, PARTNERS, TYPES, projector, random_matrix


@pytest.mark.parametrize("direction", ["inputs", "outputs"])
def test_shares_and_p_values_by_enumeration(direction):
    matrix = random_matrix(1)
    G = matrix.loc[PARTNERS, TYPES].T if direction == "inputs" else matrix.loc[TYPES, PARTNERS]
    G = G.to_numpy()
    table = decompose_connectivity(matrix, FACTORS, directions=direction).set_index("effect")
    assert table["share"].sum() == pytest.approx(1)
    assert table["expected"].sum() == pytest.approx(1)
    assert table["n_distinct"].tolist() == [35, 105, 840]
    assert table["n_distinct_within"].tolist() == [8, 24, 840]
    total = np.sum((G - G.mean(axis=0)) ** 2)
    K = G @ G.T
    everyone = np.array(list(itertools.permutations(range(8))))
    for effect in (("dendrite",), ("axon",), ("dendrite", "axon")):
        P = projector(effect)
        row = table.loc[":".join(effect)]
        assert row["share"] == pytest.approx(np.sum((P @ G) ** 2) / total)
        drawn = np.einsum("pij,ij->p", K[everyone[:, :, None], everyone[:, None, :]], P)
        observed = np.sum(P * K)
        assert row["pval"] == pytest.approx(np.mean(drawn >= observed - 1e-9))
        others = {"dendrite": FACTORS["axon"], "axon": FACTORS["dendrite"]}
        if len(effect) == 1:
            strata = others[effect[0]].to_numpy()
            inside = (strata[everyone] == strata).all(axis=1)
            assert row["pval_within"] == pytest.approx(np.mean(drawn[inside] >= observed - 1e-9))


def test_several_types_per_group_and_an_empty_group():
    """Groups count the same however many types they hold; least squares where the table is not full."""
    types = [*TYPES[:7], "T4a2", "T4a3", "T5b2"]  # no T5d
    factors = pd.DataFrame({"dendrite": [t[:2] for t in types], "axon": [t[2] for t in types]}, index=types)
    matrix = random_matrix(2, types)
    table = decompose_connectivity(matrix, factors, interactions=None, directions="inputs", n_resamples=199)
    assert table["effect"].tolist() == ["dendrite", "axon"]
    assert np.isinf(table["n_distinct"]).all()  # ten types: a sample of relabellings
    G = matrix.loc[PARTNERS, types].T
    means = G.groupby([factors["dendrite"], factors["axon"]]).mean()
    rows = pd.DataFrame(list(means.index), columns=["dendrite", "axon"])
    D = pd.get_dummies(rows).to_numpy(float)
    fitted = np.linalg.lstsq(D, means.to_numpy(), rcond=None)[0]
    effect = fitted[:2] - fitted[:2].mean(axis=0)
    at_types = effect[(factors["dendrite"] == "T5").astype(int)]
    total = ((G - G.mean()) ** 2).to_numpy().sum()
    assert table.loc[0, "share"] == pytest.approx(np.sum(at_types**2) / total)


def test_levels_of_the_relabelling_tests():
    """No effect: both tests reject at most at their nominal rate. A strong axon effect: the dendrite's stays below."""
    rejected = np.zeros((2, 2))
    n = 30
    for seed in range(n):
        matrix = random_matrix(seed)
        row = decompose_connectivity(matrix, FACTORS, interactions=None, directions="inputs").set_index("effect")
        rejected[0] += [row.loc["axon", "pval"] <= 0.05, row.loc["axon", "pval_within"] <= 0.05]
        matrix.loc[PARTNERS, TYPES] += 3 * np.random.default_rng(seed).normal(size=(6, 4))[:, [0, 1, 2, 3] * 2]
        row = decompose_connectivity(matrix, FACTORS, interactions=None, directions="inputs").set_index("effect")
        rejected[1] += [row.loc["dendrite", "pval"] <= 0.05, row.loc["axon", "pval_within"] <= 0.05]
    bound = 0.05 * n + 2.6 * np.sqrt(0.05 * 0.95 * n)
    assert (rejected[0] <= bound).all()
    assert rejected[0][0] > 0  # and it does reject
    assert rejected[1][0] <= bound
    assert rejected[1][1] > 0.9 * n  # the effect that is there is found


def test_connections_among_the_types_count_only_if_asked_for():
    matrix = random_matrix()
    alone = decompose_connectivity(matrix, FACTORS)
    zeroed = matrix.copy()
    zeroed.loc[TYPES, TYPES] = 0.0
    pd.testing.assert_frame_equal(alone, decompose_connectivity(zeroed, FACTORS))
    pd.testing.assert_frame_equal(alone, decompose_connectivity(zeroed, FACTORS, within=True))
    assert not np.allclose(alone["share"], decompose_connectivity(matrix, FACTORS, within=True)["share"])


def test_partners_name_what_differs():
    matrix = pd.DataFrame(0.0, index=PARTNERS, columns=TYPES)
    matrix.loc["P2", FACTORS["dendrite"] == "T4"] = 30.0
    matrix.loc["P4", FACTORS["dendrite"] == "T5"] = 10.0
    table = decompose_connectivity(matrix, FACTORS, directions="inputs")
    assert table.loc[0, "partners"] == "P2 90 %, P4 10 %"
    assert table.loc[1, "partners"] == ""


def test_comparison_of_connectomes():
    one, other = random_matrix(0), random_matrix(5)
    same = compare_connectivity(one, 0.3 * one + 7, FACTORS)  # neither scale nor a constant matters
    np.testing.assert_allclose(same["cosine"], 1)
    strong = one.copy()
    strong.loc[PARTNERS, TYPES] += 9 * np.random.default_rng(9).normal(size=(6, 4))[:, [0, 1, 2, 3] * 2]
    found = compare_connectivity(strong, strong + random_matrix(7), FACTORS, directions="inputs").set_index("effect")
    assert found.loc["axon", "pval"] == pytest.approx(1 / 2520)
    table = compare_connectivity(one, other, FACTORS, directions="inputs").set_index("effect")
    A, B = (m.loc[PARTNERS, TYPES].T.to_numpy() for m in (one, other))
    P = projector(("axon",))
    fits = P @ A, P @ B
    expected = np.sum(fits[0] * fits[1]) / np.sqrt(np.sum(fits[0] ** 2) * np.sum(fits[1] ** 2))
    assert table.loc["axon", "cosine"] == pytest.approx(expected)
    centred = P @ A, B - B.mean(axis=0)
    everyone = np.array(list(itertools.permutations(range(8))))
    drawn = np.einsum("im,pim->p", centred[0], centred[1][everyone])
    assert table.loc["axon", "pval"] == pytest.approx(np.mean(drawn >= drawn[0] - 1e-9))
    assert table["n_distinct"].tolist() == [70, 2520, 40320]
    with pytest.raises(ValueError, match="inputs"):
        compare_connectivity(one, one.rename(index=str.lower, columns={p: p.lower() for p in PARTNERS}), FACTORS)


def test_bad_connectivity():
    matrix = random_matrix()
    with pytest.raises(ValueError, match="DataFrame"):
        decompose_connectivity(matrix.to_numpy(), FACTORS)
    with pytest.raises(ValueError, match=r"'T4b'.*postsynaptic"):
        decompose_connectivity(matrix.drop(columns="T4b"), FACTORS)
    decompose_connectivity(matrix.drop(columns="T4b"), FACTORS, directions="outputs")
    with pytest.raises(ValueError, match=r"presynaptic.*'T4a'"):
        decompose_connectivity(matrix.rename(index={"T4b": "T4a"}), FACTORS)
    with pytest.raises(ValueError, match=r"'T4a'.*factors"):
        decompose_connectivity(matrix, FACTORS.rename(index={"T4b": "T4a"}))
    with pytest.raises(ValueError, match="3 types"):
        decompose_connectivity(matrix, FACTORS.iloc[:3])
    silent = matrix.copy()
    silent.loc[PARTNERS, "T5c"] = 0.0
    with pytest.raises(ValueError, match=r"'T5c'.*inputs"):
        decompose_connectivity(silent, FACTORS)
    broken = matrix.copy()
    broken.loc["P1", "T4a"] = np.nan
    with pytest.raises(ValueError, match="'P1' to 'T4a'"):
        decompose_connectivity(broken, FACTORS)
    constant = matrix.copy()
    constant.loc[PARTNERS, TYPES] = 1.0
    with pytest.raises(ValueError, match=r"inputs.* 8 "):
        decompose_connectivity(constant, FACTORS)
    with pytest.raises(ValueError, match="directions='in'"):
        decompose_connectivity(matrix, FACTORS, directions="in")


@pytest.mark.data
def test_t4t5_inputs_follow_the_dendrite_and_outputs_the_axon():
    tables = []
    for edges in (datasets.flyvis_connectome(), datasets.flywire_connectivity()):
        edges = edges.groupby(["pre", "post"])["n_synapses"].sum().astype(float).unstack(fill_value=0.0)
        names = edges.index.union(edges.columns)
        tables.append(edges.reindex(index=names, columns=names, fill_value=0.0))
    for table in tables:
        found = decompose_connectivity(table, FACTORS).set_index(["direction", "effect"])
        assert found.loc[("inputs", "dendrite"), "share"] > 0.9
        assert found.loc[("outputs", "axon"), "share"] > 0.6
        assert found.loc[("inputs", "dendrite"), "pval"] == pytest.approx(1 / 35)
        assert found.loc[("outputs", "axon"), "pval"] == pytest.approx(1 / 105)
