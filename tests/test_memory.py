"""No public function writes into what the user gives: every one is called with memory that is read-only.

The names are read from the modules, so a new function without a case fails.
"""

import inspect
import warnings
from functools import cache

import anndata as ad
import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import flda
from flda import circuits, inference, metrics
from flda.circuits import optim, wiring
from flda.circuits.simulate import retina_circuit

MODULES = {
    "flda": flda, "inference": inference, "metrics": metrics, "tl": flda.tl, "get": flda.get, "pl": flda.pl,
    "pp": flda.pp, "report": flda.report, "simulate": flda.simulate, "circuits": circuits, "wiring": wiring,
    "optim": optim,
}  # fmt: skip
PUBLIC = [
    f"{room}.{name}"
    for room, module in MODULES.items()
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name)) and callable(getattr(module, name))
]
# what results are returned in, and what takes no data
NO_DATA = {
    "flda.FLDAWarning", "inference.Bootstrap", "inference.EffectTests", "inference.ScaleCheck", "inference.Stability",
    "simulate.CountModel", "simulate.Power", "circuits.CircuitRecovery", "circuits.SignedWiring", "circuits.Wiring",
    "circuits.marker_table", "circuits.receptor_table", "optim.exponentiated_gradient", "optim.integer_madam",
    "optim.madam", "optim.nero", "optim.proximal_adam",
}  # fmt: skip


class Lock:
    """Makes copies of inputs whose memory cannot be written to, and says afterwards whether they are as they were."""

    def __init__(self):
        self.given = []

    def __call__(self, value):
        value = locked(value)
        self.given.append((value, state(value)))
        return value

    def check(self):
        for value, before in self.given:
            assert state(value) == before, f"a {type(value).__name__} was changed"


def locked(value):
    if isinstance(value, ad.AnnData):
        value = value.copy()
        value.X = locked(value.X)
        for name in list(value.layers):
            value.layers[name] = locked(value.layers[name])
        return value
    if isinstance(value, dict):
        return {name: locked(part) for name, part in value.items()}
    if isinstance(value, pd.DataFrame):
        return pd.DataFrame({name: locked(value[name]) for name in value}, value.index, copy=False)
    if isinstance(value, pd.Series) and not isinstance(value.dtype, pd.CategoricalDtype):
        return pd.Series(locked(value.to_numpy()), value.index, name=value.name, copy=False)
    value = value.copy()
    for part in (value.data, value.indices, value.indptr) if sp.issparse(value) else (value,):
        if isinstance(part, np.ndarray):
            part.flags.writeable = False
    return value


def state(value):
    """A hash of the content; flags and blocks that libraries keep beside it are no part of it."""
    if isinstance(value, ad.AnnData):
        parts = [
            value.X,
            *(value.layers[name] for name in BASE.layers),
            value.obs[list(BASE.obs)],
            value.var[list(BASE.var)],
        ]
        return [state(part) for part in parts]
    if isinstance(value, dict):
        return {name: state(part) for name, part in value.items()}
    if isinstance(value, pd.DataFrame | pd.Series):
        table = pd.DataFrame(value)
        return joblib.hash([table.to_csv(), table.dtypes.astype(str).to_list()])
    if sp.issparse(value):
        return joblib.hash([value.format, value.data.copy(), value.indices.copy(), value.indptr.copy()])
    return joblib.hash(np.array(value))


FACTORS = ["dendrite", "axon"]
BASE = flda.datasets.t4t5_simulated(96, 50)
BASE.var_names = ["VAChT", *BASE.var_names[1:]]
X, Y, DONOR = BASE.X.toarray(), BASE.obs[FACTORS].astype(str), BASE.obs["donor"].astype(str).to_numpy()
COUNTS = BASE.layers["counts"].toarray().astype(float)
FIT = {"shrinkage": 0.5}
FEW = {"n_genes": 2, "gap_effort": 0, **FIT}
NET = pd.DataFrame({"source": "s", "target": BASE.var_names[:5]})
TYPES = [f"T{d}{a}" for d in (4, 5) for a in "abcd"]
TABLE = pd.DataFrame({"dendrite": [t[:2] for t in TYPES], "axon": [t[2] for t in TYPES]}, index=TYPES)
RNG = np.random.default_rng(0)
PARTNERS = pd.DataFrame(RNG.poisson(5.0, (6, 8)).astype(float), [f"p{i}" for i in range(6)], TYPES)
EDGES = pd.DataFrame([(pre, t) for t in TYPES for pre in ("Mi1", "Tm9")], columns=["pre", "post"]).assign(n_synapses=5)
SIGNS = pd.DataFrame(
    {"sign": [1, -1], "transmitter": ["a", "b"], "p_positive": [0.9, 0.1], "p_negative": [0.0, 0.9], "p_unknown": 0.1},
    index=["Mi1", "Tm9"],
)  # fmt: skip


@cache
def model():
    return flda.FLDA(**FIT).fit(X, Y)


@cache
def scores():
    return model().transform(X)


@cache
def results():
    """An AnnData with the results of every step."""
    adata = BASE.copy()
    with warnings.catch_warnings(action="ignore"):
        flda.tl.flda(adata, FACTORS, **FIT)
        for name, step in STEPS.items():
            if name not in ("flda", "transform", "predict"):
                step(adata)
        circuits.link_axes(adata, PARTNERS, "subtype", directions="inputs", n_resamples=9)
    return adata


@cache
def fitted():
    adata = BASE.copy()
    flda.tl.flda(adata, FACTORS, **FIT)
    flda.tl.rank_genes(adata, n_genes=2, gap_effort=0)
    return adata


@cache
def retina():
    return retina_circuit("2", n_kernels=3)


STEPS = {
    "flda": lambda a: flda.tl.flda(a, FACTORS, key_added="other", **FIT),
    "rank_genes": lambda a: flda.tl.rank_genes(a, n_genes=2, gap_effort=0),
    "effect_tests": lambda a: flda.tl.effect_tests(a, n_resamples=3),
    "gene_sets": lambda a: flda.tl.gene_sets(a, NET, n_resamples=3, min_genes=2),
    "held_out_scores": lambda a: flda.tl.held_out_scores(a, n_folds=2),
    "stability": lambda a: flda.tl.stability(a, n_resamples=2, n_bootstraps=2),
    "path": lambda a: flda.tl.path(a, n_genes=[1, 2], n_folds=2),
    "panel": lambda a: flda.tl.panel(a, 3),
    "certify": lambda a: flda.tl.certify(a, n_folds=2),
    "choose_penalty": lambda a: flda.tl.choose_penalty(a, penalties=[1.0], n_folds=2),
    "scale_check": lambda a: flda.tl.scale_check(a, n_resamples=3),
    "counterfactual": lambda a: flda.tl.counterfactual(a, {"dendrite": "T5"}),
    "certify_counterfactual": lambda a: flda.tl.certify_counterfactual(a, "dendrite"),
    "transform": lambda a: flda.tl.transform(a, fitted()),
    "predict": lambda a: flda.tl.predict(a, fitted()),
}
T, WITHIN = np.eye(8)[None], np.ones(1)


def neurons(L):
    B = np.triu(RNG.random((40, 40)) < 0.3, 1).astype(float)
    return L((RNG.random((40, 3)) < 0.5).astype(float)), L(sp.csr_array(B + B.T))


def circuit(L):
    samples, responses = retina().sample(60)
    return retina().model, L(retina().truth), L(samples), L(responses)


def units(L):
    return L(RNG.random((4, 3))), L(RNG.random((3, 1)))


CASES = {
    "flda.FLDA": lambda L: flda.FLDA(**FIT).fit(L(X), L(Y), L(DONOR)).predict(L(X)),
    "flda.SparseFLDA": lambda L: flda.SparseFLDA(**FEW).fit(L(sp.csc_array(X)), L(Y)).transform(L(X)),
    "flda.PanelFLDA": lambda L: flda.PanelFLDA(n_genes=3, **FIT).fit(L(X), L(Y), L(DONOR)).transform(L(X)),
    "inference.bootstrap": lambda L: inference.bootstrap(flda.SparseFLDA(**FEW), L(X), L(Y), n_resamples=3),
    "inference.certify": lambda L: inference.certify(flda.FLDA(**FIT), L(X), L(Y), L(DONOR), n_folds=2),
    "inference.certify_counterfactual": lambda L: inference.certify_counterfactual(
        flda.FLDA(**FIT), L(X), L(Y), change="dendrite"
    ),
    "inference.choose_penalty": lambda L: inference.choose_penalty(
        flda.FLDA(**FIT), L(X), L(Y), penalties=L(np.array([1.0, 10.0])), n_folds=2
    ),
    "inference.depth_check": lambda L: inference.depth_check(L(X), L(Y), depth=L(COUNTS.sum(axis=1) + 1)),
    "inference.effect_tests": lambda L: inference.effect_tests(
        flda.FLDA(**FIT), L(sp.csr_array(X)), L(Y), L(DONOR), n_resamples=3
    ),
    "inference.gene_set_tests": lambda L: inference.gene_set_tests(
        flda.FLDA(**FIT), L(X), L(Y), sets={"s": {0: 1.0, 2: 1.0}}, n_resamples=3
    ),
    "inference.scale_check": lambda L: inference.scale_check(
        flda.FLDA(**FIT), L(X), L(Y), counts=L(sp.csr_array(COUNTS)), n_resamples=3
    ),
    "inference.stability_selection": lambda L: inference.stability_selection(
        flda.SparseFLDA(**FEW), L(X), L(Y), n_resamples=2
    ),
    "metrics.effect_shares": lambda L: metrics.effect_shares(L(T), L(WITHIN), model().design_),
    "metrics.effect_snr": lambda L: metrics.effect_snr(L(scores()), L(Y), L(DONOR)),
    "metrics.explained_variance": lambda L: metrics.explained_variance(L(pd.DataFrame(scores())), model().design_),
    "metrics.largest_signs": lambda L: metrics.largest_signs(L(model().components_.T)),
    "metrics.mean_products": lambda L: metrics.mean_products(L(scores()), L(Y.to_numpy())),
    "metrics.modularity": lambda L: metrics.modularity(L(metrics.mutual_information(scores(), Y))),
    "metrics.mutual_information": lambda L: metrics.mutual_information(L(scores()), L(Y)),
    "metrics.mutual_information_gap": lambda L: metrics.mutual_information_gap(
        L(metrics.mutual_information(scores(), Y)), L(Y)
    ),
    "metrics.patterns": lambda L: metrics.patterns(
        L(model().means_), model().design_, list(model().axes_["effect"]), L(model().components_),
        sd=L(model().within_sd_),
    ),
    "metrics.significant": lambda L: metrics.significant(L(np.array([3.0, 12.0, np.nan])), 1),
    "metrics.specificity": lambda L: metrics.specificity(
        L(pd.DataFrame({"A": [9.0, 3.0], "B": [1.0, 60.0]})), "A", {"A": 1, "B": 1}
    ),
    "metrics.total_products": lambda L: metrics.total_products(L(model().means_ * 12), L(np.full(8, 900.0)), L(Y)),
    **{f"tl.{name}": lambda L, step=step: step(L(fitted())) for name, step in STEPS.items()},
    "tl.transform": lambda L: flda.tl.transform(L(BASE), L(fitted())),
    "tl.predict": lambda L: flda.tl.predict(L(BASE), L(fitted())),
    **{f"get.{name}": lambda L, name=name: getattr(flda.get, name)(L(results())) for name in flda.get.__all__},
    **{f"pl.{name}": lambda L, name=name: getattr(flda.pl, name)(L(results())) for name in flda.pl.__all__},
    "pl.power": lambda L: flda.pl.power(power(L)),
    "pp.augment": lambda L: flda.pp.augment(L(BASE), FACTORS, n_cells=14),
    "report.pictures": lambda L: next(iter(flda.report.pictures(L(results())))),
    "report.render": lambda L: flda.report.render(L(results()), figures=[]),
    "report.write": lambda L: flda.report.write(L(results()), "/dev/null", figures=[]),
    "simulate.fit_counts": lambda L: flda.simulate.fit_counts(L(BASE), FACTORS),
    "simulate.gamma_rates": lambda L: flda.simulate.gamma_rates(L(RNG.normal(size=(5, 2))), L(np.array([0.5, 1.0]))),
    "simulate.power": lambda L: power(L),
    "circuits.CircuitModel": lambda L: (lambda m, truth, X, y: m.predict(truth, X))(*circuit(L)),
    "circuits.Connection": lambda L: circuits.Connection("a", "b", L(np.ones((2, 1)))),
    "circuits.FilterBank": lambda L: circuits.FilterBank(L(np.ones((1, 3, 3))), L(np.array([-4.0])), 2).transform(
        L(np.ones((1, 4, 4)))
    ),
    "circuits.Population": lambda L: circuits.Population("a", 2, gain=L(np.ones(2)), threshold=L(np.ones(2))),
    "circuits.SignConsistentProjection": lambda L: circuits.SignConsistentProjection(8).fit_transform(L(X)),
    "circuits.SignMask": lambda L: circuits.SignMask.from_types(L(SIGNS["sign"]), L(EDGES)),
    "circuits.SignedLinear": lambda L: circuits.SignedLinear(L(np.ones(50)), alpha=0.01).fit(L(X), L(X[:, 0])),
    "circuits.audit_signs": lambda L: circuits.audit_signs(L(EDGES.assign(sign=1.0)), L(SIGNS)),
    "circuits.canonical_scale": lambda L: circuits.canonical_scale(*units(L)),
    "circuits.circuit_notes": lambda L: (
        lambda m, truth, X, y: circuits.circuit_notes(m, truth, X, L(circuits.unit_report(m, truth, X)))
    )(*circuit(L)),
    "circuits.compare_connectivity": lambda L: circuits.compare_connectivity(
        L(PARTNERS), L(3 * PARTNERS), L(TABLE), directions=["inputs"], n_resamples=9
    ),
    "circuits.decompose_connectivity": lambda L: circuits.decompose_connectivity(
        L(PARTNERS), L(TABLE), directions=["inputs"], n_resamples=9
    ),
    "circuits.edge_signs": lambda L: circuits.edge_signs(L(BASE), "subtype", L(EDGES.assign(pre="T4a"))),
    "circuits.flip_unit": lambda L: (lambda m, truth, X, y: circuits.flip_unit(m, truth, "amacrine", 6))(*circuit(L)),
    "circuits.flippable_units": lambda L: (lambda m, truth, X, y: circuits.flippable_units(m, truth))(*circuit(L)),
    "circuits.fuse_signs": lambda L: circuits.fuse_signs(L(SIGNS), L(SIGNS)),
    "circuits.infer_signs": lambda L: circuits.infer_signs(L(BASE), "subtype", key_added="signs"),
    "circuits.link_axes": lambda L: circuits.link_axes(
        L(fitted()), L(PARTNERS), "subtype", directions="inputs", n_resamples=9
    ),
    "circuits.match_units": lambda L: circuits.match_units(*units(L), *units(L)),
    "circuits.matched_recovery": lambda L: circuits.matched_recovery(*units(L), *units(L)),
    "circuits.phenotypes_from_connectivity": lambda L: circuits.phenotypes_from_connectivity(
        L(PARTNERS.reindex([*PARTNERS.index, *TYPES], fill_value=1.0)), TYPES, outputs=None
    ),
    "circuits.recover_circuit": lambda L: (
        lambda m, truth, X, y: circuits.recover_circuit(m, X, y, penalties=[1e-3], halves=False, n_restarts=1)
    )(*circuit(L)),
    "circuits.marker_expression": lambda L: circuits.marker_expression(L(BASE), "subtype"),
    "circuits.signed_wiring": lambda L: signed_wiring(L),
    "circuits.signs_from_predictions": lambda L: circuits.signs_from_predictions(
        L(pd.DataFrame({"type": ["Mi1", "Mi4"], "transmitter": ["ACH", "GABA"], "probability": [0.9, 0.95]}))
    ),
    "circuits.signs_from_transmitters": lambda L: circuits.signs_from_transmitters(
        L(pd.DataFrame({"acetylcholine": [1, 0], "gaba": [0, 1]}, index=["Mi1", "Mi4"]))
    ),
    "circuits.support_recovery": lambda L: circuits.support_recovery(L(np.array([0.5, 0.0])), L(np.array([1.0, 0.0]))),
    "circuits.system_recovery": lambda L: circuits.system_recovery(L(np.array([0.5, 0.0])), L(np.array([1.0, 0.0]))),
    "circuits.unit_report": lambda L: (lambda m, truth, X, y: circuits.unit_report(m, truth, X))(*circuit(L)),
    "circuits.wiring_features": lambda L: circuits.wiring_features(by_neuron(L), ["T4a", "T5a"]),
    "circuits.wiring_from_edges": lambda L: by_neuron(L),
    "circuits.wiring_from_flywire": lambda L: circuits.wiring_from_flywire(
        L(pd.DataFrame({"pre_root_id": [1, 1], "post_root_id": 9, "neuropil": ["M", "L"], "syn_count": [4, 3]})),
        L(pd.DataFrame({"root_id": [1, 9], "primary_type": ["Mi1", "T4a"]})),
    ),
    "circuits.wiring_from_neuprint": lambda L: circuits.wiring_from_neuprint(
        L(pd.DataFrame({"bodyId": [1, 9], "type": ["Mi1", "T4a"], "instance": ["a", "b"]})),
        L(pd.DataFrame({"bodyId_pre": [1], "bodyId_post": [9], "roi": ["ME(R)"], "weight": [4]})),
    ),
    "wiring.BilinearModel": lambda L: wiring.BilinearModel(1, alpha=0.1, max_iter=5).fit(*neurons(L)),
    "wiring.MaximumEntropy": lambda L: wiring.MaximumEntropy.fit(
        L(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])), L(1 - np.eye(3)), undirected=True
    ),
    "wiring.SpatialConnectomeModel": lambda L: wiring.SpatialConnectomeModel(alpha=1.0).fit(*neurons(L)),
    "wiring.cross_validate": lambda L: wiring.cross_validate(
        wiring.SpatialConnectomeModel(alpha=1.0), *neurons(L), n_nulls=2, n_resamples=3, n_folds=2
    ),
    "wiring.differential_expression": lambda L: wiring.differential_expression(
        *neurons(L), contact=L(sp.csr_array(1 - np.eye(40))), n_resamples=9
    ),
    "wiring.type_profiles": lambda L: wiring.type_profiles(L(X), L(Y["axon"])),
    "optim.integer_weights": lambda L: optim.integer_weights(optim.integer_madam().init(L(np.array([1.0, -1.0])))),
    "optim.nero_project": lambda L: optim.nero_project(L(np.array([[3.0], [4.0]]))),
    "optim.proximal_l1": lambda L: optim.proximal_l1(L(np.array([3.0, -3.0])), 1.0, L(np.array([1.0, 1.0]))),
}  # fmt: skip


def power(L):
    return flda.simulate.power(L(BASE), FACTORS, n_cells=[5], n_studies=2, n_genes=2, shrinkage=0.5)


def by_neuron(L):
    edges = L(pd.DataFrame({"pre": [1, 1, 2], "post": [8, 9, 9], "n_synapses": [5, 2, 4]}))
    return circuits.wiring_from_edges(edges, L(pd.Series({1: "Mi1", 2: "Tm9", 8: "T4a", 9: "T5a"})), by="neuron")


def signed_wiring(L):
    activity = pd.DataFrame(RNG.random((60, 2)), columns=["Mi1", "Tm9"])
    responses = pd.DataFrame({t: activity["Mi1" if t[1] == "4" else "Tm9"] for t in TYPES})
    return circuits.signed_wiring(L(fitted()), L(EDGES), L(activity), L(responses), groupby="subtype", n_alphas=3)


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:matplotlib")
def test_memory_of_the_user_is_read_only(name):
    if name in NO_DATA:
        assert name not in CASES
        return
    if name.startswith("optim."):
        pytest.importorskip("jax", reason="the optimisers need jax and optax: pip install flda[circuits]")
    lock = Lock()
    CASES[name](lock)
    assert lock.given
    lock.check()
    plt.close("all")
