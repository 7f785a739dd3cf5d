"""The main job on real data: what must come out, judged on cells that were not fitted."""

import numpy as np
import pytest

import flda
from flda._design.make import make_design
from flda.inference._certificate import certify


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:depth goes with 'amount'")  # by design
def test_rnamix_axes_follow_the_designed_factors():
    adata = flda.datasets.rnamix()
    factors = ["mixture", "amount", "protocol"]
    flda.tl.flda(adata, factors, interactions=None)
    table = certify(flda.FLDA(interactions=None, random_state=0), adata.X, adata.obs[factors]).set_index("axis")
    # three cell lines span two dimensions, so two mixture axes carry nearly everything
    assert (table.loc[["mixture_1", "mixture_2", "amount_1", "protocol_1"], "snr"] > 10).all()
    assert table.loc["mixture_3", "snr"] < 0.2 * table.loc["mixture_2", "snr"]
    assert (table["crosstalk"] < 0.2 * table["snr"]).loc[["mixture_1", "mixture_2", "amount_1", "protocol_1"]].all()
    # less RNA means a larger share of spike-ins: 45 of 16,469 genes
    first = flda.get.rank_genes_df(adata, "amount").query("axis == 'amount_1'").head(20)
    assert adata.var.loc[first["gene"], "spike_in"].sum() >= 8
    mixture = flda.get.rank_genes_df(adata, "mixture").query("axis == 'mixture_1'").head(20)
    assert adata.var.loc[mixture["gene"], "spike_in"].sum() == 0


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:depth goes with 'amount'")  # by design
def test_rnamix_with_interactions_names_the_empty_group(recwarn):
    adata = flda.datasets.rnamix()
    flda.tl.flda(adata, ["mixture", "amount", "protocol"], shrinkage=0.9)
    assert "'mixture:amount:protocol': 1 of 56 groups are empty (0-100-0 x 15 x SORT-seq)" in " ".join(
        str(w.message) for w in recwarn
    )
    assert len(flda.get.axes_df(adata)) == 6 + 3 + 1 + 18 + 6 + 3


@pytest.mark.data
def test_added_substances_lead_their_axes():
    pytest.importorskip("rdata", reason="rdata is in the extra 'data'")
    adata = flda.datasets.uch()
    factors = ["hippurate", "citrate", "time"]
    flda.tl.flda(adata, factors, interactions=None)
    flda.tl.rank_genes(adata)
    for substance in ("hippurate", "citrate"):
        scores = adata.obsm["X_flda"][:, flda.get.axes_df(adata)["axis"].tolist().index(f"{substance}_1")]
        assert abs(np.corrcoef(scores, adata.obs[f"{substance}_dose"])[0, 1]) > 0.95
        # what differs; the axis itself also uses bins that cancel the other effects
        F = adata.varm["flda_F"][:, list(adata.uns["flda"]["effects"]).index(substance)]
        assert adata.var[substance].iloc[np.argsort(-np.nan_to_num(F))[:6]].all()


@pytest.mark.data
def test_proteins_of_mice_with_the_mouse_as_donor():
    adata = flda.datasets.mice_protein()
    factors = ["genotype", "treatment", "behaviour"]
    flda.tl.flda(adata, factors, donor="mouse")
    assert len(flda.get.axes_df(adata)) == 7
    assert np.isfinite(adata.obsm["X_flda"]).all()
    flda.tl.rank_genes(adata)
    ranked = flda.get.rank_genes_df(adata).groupby("axis").head(8).groupby("axis")["gene"].agg(list)
    assert ranked["genotype_1"][0] == "APP"  # Ts65Dn mice have three copies of its gene
    assert {"pERK", "SOD1", "pCAMKII"} <= set(ranked["behaviour_1"])  # as the publication reports


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_pbmc68k_reduced_with_five_empty_groups(recwarn):
    sc = pytest.importorskip("scanpy", reason="scanpy is an extra")
    adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    factors = ["bulk_labels", "phase"]
    flda.tl.flda(adata, factors)
    assert "5 of 30 groups are empty" in " ".join(str(w.message) for w in recwarn)
    assert flda.get.axes_df(adata).groupby("effect").size().to_dict() == {"bulk_labels": 9, "phase": 2}
    assert (flda.get.design_df(adata)["n_cells"] == 0).sum() == 5
    table = certify(flda.FLDA(interactions=None, random_state=0), adata.X, adata.obs[factors]).set_index("axis")
    assert table.loc["bulk_labels_1", "snr"] > 3
    assert table.loc["phase_1", "snr"] > 1
    assert table.loc["phase_1", "crosstalk"] < 0.3 * table.loc["phase_1", "snr"]
    # what a neurobiologist would ask of any method here: known genes of the cell cycle lead the phase axes
    leading = set(flda.get.rank_genes_df(adata, "phase").groupby("axis").head(15)["gene"])
    assert leading & {"TYMS", "PCNA", "STMN1", "TUBA1B", "HMGB2", "CKS1B", "KIAA0101", "PTTG1", "CDC20", "HMGN2"}
    sc.pl.embedding(adata, basis="flda", color="phase", show=False)
    assert np.isfinite(adata.obsm["X_flda"]).all()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("left", [1, 3])
def test_a_group_that_shrinks_to_a_few_cells_does_not_take_over_an_axis(left):
    """Blood cells: a group of the training half loses all but a few of its cells; the other half judges the axis."""
    sc = pytest.importorskip("scanpy", reason="scanpy is an extra")
    adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    X, y = adata.X.toarray(), adata.obs[["bulk_labels", "phase"]].astype(str).reset_index(drop=True)
    codes = y.groupby(list(y)).ngroup().to_numpy()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        half = rng.permutation(len(y)) < len(y) // 2
        large = [c for c in np.unique(codes) if np.sum(half & (codes == c)) >= 12]
        cut = half.copy()
        cut[np.flatnonzero(half & (codes == rng.choice(large)))[left:]] = False
        scores, signal = [], []
        for cells in (half, cut):
            model = flda.FLDA(interactions=None).fit(X[cells], y[cells])
            scores.append(model.transform(X[~half])[:, 0])
            snr = flda.metrics.effect_snr(scores[-1][:, None], make_design(y[~half], interactions=None))
            signal.append(snr["bulk_labels"][0])
        assert signal[1] >= 0.8 * signal[0]
        assert abs(np.corrcoef(*scores)[0, 1]) > 0.9


@pytest.mark.data
def test_added_amounts_as_numbers():
    """The leading bins of both lines are the known ones, and neither axis shows the other substance."""
    pytest.importorskip("rdata", reason="rdata is in the extra 'data'")
    adata = flda.datasets.uch()
    names = ["hippurate_dose", "citrate_dose"]
    flda.tl.flda(adata, [*names, "time"], numeric=names, interactions=None, shrinkage=0.1)
    flda.tl.certify(adata)
    table = flda.get.certificate_df(adata).set_index("effect")
    assert table.index.tolist() == ["hippurate_dose.linear", "citrate_dose.linear", "time"]
    for name in names:
        score = adata.varm["flda"][:, table.index.get_loc(f"{name}.linear")] * adata.var["flda_within_sd"]
        assert adata.var[name.removesuffix("_dose")].iloc[np.argsort(-np.abs(score))[:6]].all()
        assert table.loc[f"{name}.linear", "snr"] > 100
        assert abs(table.loc[f"{name}.linear", "crosstalk"]) < 0.5
