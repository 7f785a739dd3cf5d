"""Decomposition of connectivity and links to gene axes: against projectors, enumeration and planted truth."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import flda
from flda import datasets
from flda.circuits import (
    audit_signs,
    compare_connectivity,
    decompose_connectivity,
    link_axes,
    phenotypes_from_connectivity,
    signed_wiring,
    signs_from_transmitters,
)

TYPES = [f"{d}{a}" for d in ("T4", "T5") for a in "abcd"]
FACTORS = pd.DataFrame({"dendrite": [t[:2] for t in TYPES], "axon": [t[2] for t in TYPES]}, index=TYPES)
PARTNERS = [f"P{i}" for i in range(6)]


def random_matrix(seed=0, types=TYPES, n_partners=6):
    """Inputs from and outputs to partners, and connections among the types."""
    rng = np.random.default_rng(seed)
    names = [*types, *(f"P{i}" for i in range(n_partners))]
    return pd.DataFrame(rng.normal(size=(len(names), len(names))), index=names, columns=names)


def projector(effect):
    """The textbook projector of a complete 2 x 4 table, types in the order of TYPES."""
    means = {k: np.full((k, k), 1 / k) for k in (2, 4)}
    parts = [np.eye(k) - means[k] if f in effect else means[k] for f, k in (("dendrite", 2), ("axon", 4))]
    return np.kron(*parts)


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
    table = decompose_connectivity(matrix, factors, interactions=None, directions="inputs", n_permutations=199)
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
    with pytest.raises(ValueError, match="share no partner"):
        compare_connectivity(one, one.rename(index=str.lower, columns={p: p.lower() for p in PARTNERS}), FACTORS)


@pytest.fixture(scope="module")
def cells():
    adata = datasets.t4t5_simulated(n_obs=800, n_vars=300)
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    flda.tl.held_out_scores(adata)
    return adata


def planted(adata, noise=0.3, seed=0):
    """Inputs follow the gene scores on dendrite_1, outputs those on axon_1 and axon_2."""
    rng = np.random.default_rng(seed)
    scores = pd.DataFrame(adata.obsm["X_flda_held_out"], columns=flda.get.axes_df(adata)["axis"])
    means = scores.groupby(adata.obs["subtype"].astype(str).to_numpy()).mean().loc[TYPES]
    matrix = pd.DataFrame(0.0, index=[*TYPES, *PARTNERS], columns=[*TYPES, *PARTNERS])
    standard = (means - means.mean()) / means.std()
    matrix.loc[PARTNERS, TYPES] = np.outer(rng.normal(size=6), standard["dendrite_1"])
    matrix.loc[TYPES, PARTNERS] = standard[["axon_1", "axon_2"]].to_numpy() @ rng.normal(size=(2, 6))
    for part in ((PARTNERS, TYPES), (TYPES, PARTNERS)):
        matrix.loc[part] += noise * rng.normal(size=matrix.loc[part].shape)
    return matrix


def test_links_are_found_where_they_were_planted(cells):
    adata = cells.copy()
    links = link_axes(adata, planted(adata), "subtype")
    table = links.set_index(["direction", "axis"])
    assert table.loc[("inputs", "dendrite_1"), "share"] > 0.6
    assert table.loc[("inputs", "dendrite_1"), "pval"] == pytest.approx(1 / 35)
    assert table.loc[("inputs", "dendrite_1"), "n_distinct"] == 35
    assert table.loc[("inputs", "dendrite_1"), "held_out_r2"] > 0.8
    assert table.loc[("outputs", "dendrite_1"), "pval"] > 0.2
    assert table.loc[("outputs", "dendrite_1"), "held_out_r2"] < 0.2
    assert table.loc["outputs"].loc[["axon_1", "axon_2"], "share"].sum() > 0.6
    assert table.loc[("inputs", "axon_1"), "pval"] > 0.2
    assert (links["n_types"] == 8).all()
    assert set(adata.uns["flda"]["connectivity"]) == {"links", "scores", "matrix", "pre", "post", "params"}


def test_a_link_is_what_it_says_densely(cells):
    adata = cells.copy()
    matrix = random_matrix(3)
    links = link_axes(adata, matrix, "subtype", directions="outputs").set_index("axis")
    scores = pd.DataFrame(adata.obsm["X_flda_held_out"], columns=flda.get.axes_df(adata)["axis"])
    s = scores["axon_2"].groupby(adata.obs["subtype"].astype(str).to_numpy()).mean()[TYPES].to_numpy()
    s = projector(("axon",)) @ s
    G = matrix.loc[TYPES, PARTNERS].to_numpy()
    G = G - G.mean(axis=0)
    assert links.loc["axon_2", "share"] == pytest.approx(np.sum((G.T @ s) ** 2) / (s @ s) / np.sum(G**2))
    t = G @ G.T @ s
    assert links.loc["axon_2", "correlation"] == pytest.approx(np.corrcoef(s, t)[0, 1])
    drawn = np.sum((s[np.array(list(itertools.permutations(range(8))))] @ G) ** 2, axis=1)
    assert links.loc["axon_2", "pval"] == pytest.approx(np.mean(drawn >= drawn[0] * (1 - 1e-9)))
    predicted = []
    for i in range(8):
        rest = np.delete(np.arange(8), i)
        w = (G[rest] - G[rest].mean(axis=0)).T @ (s[rest] - s[rest].mean())
        slope, offset = np.polyfit(G[rest] @ w, s[rest], 1)
        predicted.append(slope * (G[i] @ w) + offset)
    loo = np.array([np.delete(s, i).mean() for i in range(8)])
    expected = 1 - np.sum((s - predicted) ** 2) / np.sum((s - loo) ** 2)
    assert links.loc["axon_2", "held_out_r2"] == pytest.approx(expected)


def test_scores_and_links_survive_a_file(cells, tmp_path):
    adata = cells.copy()
    links = link_axes(adata, planted(adata), "subtype", directions="inputs")
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(back.uns["flda"]["connectivity"]["links"], links)
    for data in (adata, back):
        ax = flda.pl.connectivity(data, "dendrite_1")
        assert ax.get_title(loc="left").splitlines()[0].endswith("p = 0.029 (at least 0.029)")
        assert {t.get_text() for t in ax.texts} == set(TYPES)
    plt.close("all")


def test_rules_between_axes_of_partners_that_have_cells():
    """Partners with cells of their own: connections follow the product of presynaptic and postsynaptic gene scores."""
    rng = np.random.default_rng(0)
    both = datasets.t4t5_simulated(n_obs=800, n_vars=200)
    partners = datasets.t4t5_simulated(n_obs=800, n_vars=200)
    partners.obs["subtype"] = "Q" + partners.obs["subtype"].astype(str)
    partners.obs_names = "partner_" + partners.obs_names
    obs = pd.concat([both.obs, partners.obs]).astype(object)
    obs.loc[partners.obs_names, ["dendrite", "axon"]] = np.nan
    adata = AnnData(np.vstack([both.X.toarray(), partners.X.toarray()]), obs=obs, var=both.var)
    adata.obs = adata.obs.astype(dict.fromkeys(("dendrite", "axon", "subtype"), "category"))
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    scores = pd.DataFrame(adata.obsm["X_flda"], columns=flda.get.axes_df(adata)["axis"])
    means = scores.groupby(adata.obs["subtype"].astype(str).to_numpy()).mean()
    others = [f"Q{t}" for t in TYPES]
    B = np.outer(means.loc[others, "axon_1"], means.loc[TYPES, "dendrite_1"])
    matrix = pd.DataFrame(B + 0.1 * B.std() * rng.normal(size=B.shape), index=others, columns=TYPES)
    link_axes(adata, matrix, "subtype", directions="inputs")
    found = adata.uns["flda"]["connectivity"]
    strongest = found["rules"].abs().stack().idxmax()
    assert strongest == ("axon_1", "dendrite_1")
    score = found["rules_score"].set_index("held out")
    assert score.loc["neurons", "score"] > 0.8
    assert score.loc["neurons", "permutation_mean"] < 0.5


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
    with pytest.raises(ValueError, match="perfectly confounded"):
        phenotypes_from_connectivity(matrix, TYPES)
    with pytest.raises(ValueError, match="2 to 8 levels"):
        phenotypes_from_connectivity(matrix, TYPES, inputs=9)
    matrix.loc[PARTNERS, TYPES] = np.repeat(matrix.loc[PARTNERS, ["T4a", "T5a"]].to_numpy(), 4, axis=1)
    with pytest.raises(ValueError, match=r"inputs=3: the profiles of the types have only 2 distinct levels"):
        phenotypes_from_connectivity(matrix, TYPES, inputs=3, outputs=None)
    with pytest.raises(ValueError, match="no factor is left"):
        phenotypes_from_connectivity(matrix, TYPES, inputs=None, outputs=None)


def test_bad_connectivity():
    matrix = random_matrix()
    with pytest.raises(ValueError, match="must be a DataFrame"):
        decompose_connectivity(matrix.to_numpy(), FACTORS)
    with pytest.raises(ValueError, match="1 of 8 types are not among the postsynaptic ones, such as 'T4b'"):
        decompose_connectivity(matrix.drop(columns="T4b"), FACTORS)
    decompose_connectivity(matrix.drop(columns="T4b"), FACTORS, directions="outputs")
    with pytest.raises(ValueError, match="presynaptic type 'T4a' occurs twice"):
        decompose_connectivity(matrix.rename(index={"T4b": "T4a"}), FACTORS)
    with pytest.raises(ValueError, match="type 'T4a' is listed twice"):
        decompose_connectivity(matrix, FACTORS.rename(index={"T4b": "T4a"}))
    with pytest.raises(ValueError, match="3 types are too few"):
        decompose_connectivity(matrix, FACTORS.iloc[:3])
    silent = matrix.copy()
    silent.loc[PARTNERS, "T5c"] = 0.0
    with pytest.raises(ValueError, match="type 'T5c' has no inputs with any partner outside"):
        decompose_connectivity(silent, FACTORS)
    broken = matrix.copy()
    broken.loc["P1", "T4a"] = np.nan
    with pytest.raises(ValueError, match="the first from 'P1' to 'T4a'"):
        decompose_connectivity(broken, FACTORS)
    constant = matrix.copy()
    constant.loc[PARTNERS, TYPES] = 1.0
    with pytest.raises(ValueError, match="inputs of the types are the same for all 8"):
        decompose_connectivity(constant, FACTORS)
    with pytest.raises(ValueError, match="name 'inputs', 'outputs' or both"):
        decompose_connectivity(matrix, FACTORS, directions="in")


def test_links_refuse_what_cannot_be_linked(cells):
    adata = cells.copy()
    before = set(adata.uns["flda"])
    with pytest.raises(ValueError, match=r"no column 'subtypes'; did you mean 'subtype'"):
        link_axes(adata, random_matrix(), "subtypes")
    with pytest.raises(ValueError, match=r"cells of type 'donor1' in obs\['donor'\] lie in several groups"):
        link_axes(adata, random_matrix(), "donor")
    with pytest.raises(ValueError, match="not among the presynaptic ones, such as 'T5d'"):
        link_axes(adata, random_matrix().drop(index="T5d"), "subtype", directions="outputs")
    with pytest.raises(ValueError, match=r"run flda\.tl\.flda first"):
        link_axes(adata, random_matrix(), "subtype", key="nope")
    assert set(adata.uns["flda"]) == before
    with pytest.raises(ValueError, match=r"run flda\.circuits\.link_axes first"):
        flda.pl.connectivity(adata)
    link_axes(adata, random_matrix(), "subtype", directions="inputs")
    with pytest.raises(ValueError, match=r"no links with direction='outputs'; there are \['inputs'\]"):
        flda.pl.connectivity(adata, direction="outputs")
    with pytest.raises(ValueError, match="there is no axis 'axon_9'"):
        flda.pl.connectivity(adata, "axon_9")


def test_figure_of_the_matrix(cells):
    adata = cells.copy()
    matrix = planted(adata)
    link_axes(adata, matrix, "subtype")
    for direction, part in (("inputs", matrix.loc[PARTNERS, TYPES]), ("outputs", matrix.loc[TYPES, PARTNERS].T)):
        ax = flda.pl.connectivity(adata, direction=direction, n_partners=4)
        strongest = part.abs().sum(axis=1).sort_values(ascending=False).index[:4]
        assert [t.get_text() for t in ax.get_yticklabels()] == list(strongest)
        assert [t.get_text() for t in ax.get_xticklabels()] == TYPES
        drawn = np.asarray(ax.collections[0].get_array()).reshape(4, 8)
        np.testing.assert_allclose(np.sign(drawn) * drawn**2, part.loc[strongest], atol=1e-12)
        assert [line.get_xdata()[0] for line in ax.lines] == [4]  # between T4 and T5
        assert "4 strongest of 6" in ax.get_ylabel()
    ax = flda.pl.connectivity(adata, "axon_1")
    assert ax.get_ylabel().startswith("outputs along")
    plt.close("all")


def signed_problem(n_samples=300, seed=0):
    """T4/T5 cells with genes, partners with transmitter genes, signed inputs by dendrite, and activity."""
    rng = np.random.default_rng(seed)
    adata = datasets.t4t5_simulated(n_obs=500, n_vars=150)
    pres = {"Mi1": "VAChT", "Tm3": "VAChT", "Mi4": "Gad1", "Mi9": "VGlut", "Tm9": "VAChT", "CT1": "Gad1"}
    extra = rng.poisson(0.3, size=(20 * len(pres), adata.n_vars)).astype(float)
    genes = [*adata.var_names, "VAChT", "Gad1", "VGlut"]
    counts = np.zeros((adata.n_obs + len(extra), len(genes)))
    counts[: adata.n_obs, : adata.n_vars] = adata.layers["counts"].toarray()
    counts[adata.n_obs :, : adata.n_vars] = extra
    counts[: adata.n_obs, genes.index("VAChT")] = rng.poisson(5, adata.n_obs)
    names = np.repeat(list(pres), 20)
    for pre, gene in pres.items():
        rows = adata.n_obs + np.flatnonzero(names == pre)
        counts[rows, genes.index(gene)] = rng.poisson(8, 20)
    obs = pd.DataFrame(
        {"type": [*adata.obs["subtype"].astype(str), *names]}, index=[f"c{i}" for i in range(len(counts))]
    )
    obs["dendrite"] = pd.Categorical([*adata.obs["dendrite"], *[np.nan] * len(extra)])
    obs["axon"] = pd.Categorical([*adata.obs["axon"], *[np.nan] * len(extra)])
    scaled = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    cells = AnnData(scaled, obs=obs, var=pd.DataFrame(index=genes))
    cells.layers["counts"] = counts
    flda.tl.flda(cells, ["dendrite", "axon"], shrinkage=0.5)
    truth = pd.DataFrame(0.0, index=list(pres), columns=TYPES)
    truth.loc[["Mi1", "Tm3", "Mi4", "Mi9"], TYPES[:4]] = np.array([[50, 20, -12, -22]]).T
    truth.loc[["Tm9", "CT1"], TYPES[4:]] = np.array([[48, -35]]).T
    shared = rng.normal(size=(n_samples, 1))
    activity = pd.DataFrame(
        np.maximum(0.8 * shared + 0.6 * rng.normal(size=(n_samples, 6)) + 0.5, 0), columns=list(pres)
    )
    clean = activity @ truth
    responses = clean + 0.2 * clean.to_numpy().std() * rng.normal(size=clean.shape)
    edges = pd.DataFrame(list(itertools.product(pres, TYPES)), columns=["pre", "post"])
    return cells, edges, activity, responses, truth


def test_signed_wiring_from_end_to_end():
    cells, edges, activity, responses, truth = signed_problem()
    found = signed_wiring(cells, edges, activity, responses, groupby="type", layer="counts")
    assert found.signs.loc[truth.index, "sign"].tolist() == [1, 1, -1, -1, 1, -1]
    assert found.mask.counts() == {"positive": 24, "negative": 24, "unknown": 0}
    recovered = found.weights.loc[truth.index, TYPES]
    assert (recovered.to_numpy() * np.sign(found.mask.values.loc[truth.index, TYPES].to_numpy()) >= 0).all()
    assert flda.circuits.system_recovery(recovered.to_numpy(), truth.to_numpy()) > 0.97
    assert (found.fits["r2_test"] > 0.9).all()
    first = found.links.iloc[0]
    assert (first["direction"], first["axis"], first["n_distinct"]) == ("inputs", "dendrite_1", 35)
    assert first["pval"] == pytest.approx(1 / 35)
    assert first["share"] > 0.9


def test_signed_wiring_of_units_by_column_and_of_unknown_sign():
    cells, edges, activity, _, truth = signed_problem()
    doubled = pd.concat([activity * 0.4, activity * 0.6], axis=1)
    doubled += 0.05 * np.random.default_rng(0).normal(size=doubled.shape)
    doubled.columns = pd.MultiIndex.from_arrays([[*activity.columns] * 2, np.repeat([0, 1], 6)])
    response = pd.DataFrame({t: doubled.T.groupby(level=0).sum().T @ truth[t] for t in TYPES})
    cells.obs["type"] = cells.obs["type"].replace("Mi9", "Xx")  # no cells: its sign is unknown, and stays free
    found = signed_wiring(cells, edges, doubled, response, groupby="type", layer="counts")
    assert (found.fits["n_units"] == 12).all()
    assert (found.fits["n_free"] == 2).all()
    assert (found.weights.loc["Mi9", TYPES[:4]] < -30).all()  # two units of about -22 each
    fixed = signed_wiring(
        cells, edges, doubled, response, groupby="type", layer="counts", overrides={("Mi9", t): 1.0 for t in TYPES}
    )
    assert (fixed.weights.loc["Mi9"] >= 0).all()
    assert (fixed.fits["r2_test"][TYPES[:4]] < found.fits["r2_test"][TYPES[:4]]).all()  # a wrong sign costs prediction


def test_signed_wiring_bad_input():
    cells, edges, activity, responses, _ = signed_problem(n_samples=30)
    with pytest.raises(ValueError, match="activity has 29 samples and responses 30"):
        signed_wiring(cells, edges, activity[:-1], responses, groupby="type")
    with pytest.raises(ValueError, match="no edge from a type with activity reaches 'T5d'"):
        signed_wiring(cells, edges[edges["post"] != "T5d"], activity, responses, groupby="type")
    with pytest.raises(ValueError, match="responses holds NaN"):
        signed_wiring(cells, edges, activity, responses.where(responses > responses.min()), groupby="type")
    with pytest.raises(ValueError, match="8 samples are too few"):
        signed_wiring(cells, edges, activity[:8], responses[:8], groupby="type", layer="counts")


def test_audit():
    edges = pd.DataFrame(
        [
            ("A", "x", 1, 5, True),
            ("A", "x", 1, 5, True),
            ("B", "x", -1, 4, True),
            ("C", "x", 1, 3, True),
            ("D", "x", 1, 2, False),
            ("E(1)", "x", -1, 1, True),
        ],
        columns=["pre", "post", "sign", "n_synapses", "referenced"],
    )
    table = audit_signs(edges, {"A": 1.0, "B": 1.0, "C": np.nan, "E": -1.0}, names={"E(1)": "E"})
    assert table["verdict"].tolist() == ["agree", "conflict", "reference only", "no evidence", "agree"]
    assert table["n_synapses"].tolist() == [10, 4, 3, 2, 1]
    with pytest.raises(ValueError, match="A -> x has both signs"):
        audit_signs(edges.assign(sign=[1, -1, 1, 1, 1, 1]), {})
    with pytest.raises(ValueError, match="the sign 2 of the edges is neither"):
        audit_signs(edges.assign(sign=2), {})
    with pytest.raises(ValueError, match=r"\['n_synapses'\] missing"):
        audit_signs(edges.drop(columns="n_synapses"), {})


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


@pytest.mark.data
def test_audit_of_flyvis():
    edges = datasets.flyvis_connectome()
    table = audit_signs(edges, signs_from_transmitters(datasets.flywire_optic_types()))
    assert len(table) == 605
    assert (table["sign"] == -1).sum() == 228
    assert table["referenced"].sum() == 338
    assert table["verdict"].value_counts()["agree"] > table["verdict"].value_counts()["conflict"]
