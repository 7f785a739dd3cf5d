"""The pipeline a scanpy user writes, from counts to figures and new cells, on whatever scanpy is installed."""

import numpy as np
import pytest
from anndata import read_h5ad

import flda

sc = pytest.importorskip("scanpy", reason="scanpy is an extra")

# scanpy's own warnings about versions to come
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore:Groups are not reordered:UserWarning"),
    pytest.mark.filterwarnings("ignore:Tight layout not applied:UserWarning"),
]
KEY = "rank_genes_flda"


def preprocess(adata):
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "counts.h5ad"
    adata = flda.datasets.t4t5_simulated(n_obs=700, n_vars=400)
    adata.X = adata.layers.pop("counts")
    del adata.uns["log1p"]
    adata.write_h5ad(path)
    return sc.read_h5ad(path)


@pytest.fixture(scope="module")
def adata(cells):
    adata = cells[:500].copy()
    preprocess(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=200)
    flda.tl.flda(adata, ["dendrite", "axon"], mask_var="highly_variable")
    flda.tl.rank_genes(adata, n_genes=10)
    return adata


@pytest.fixture(autouse=True)
def _close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_the_fit_uses_the_variable_genes_and_finds_the_planted_ones(adata):
    assert adata.uns["flda"]["fit"]["n_genes"] == adata.var["highly_variable"].sum() == 200
    chosen = flda.get.rank_genes_df(adata, "dendrite").query("selected")["gene"]
    assert adata.var.loc[chosen, "highly_variable"].all()
    assert adata.var.loc[chosen, "truth_dendrite"].mean() >= 0.8


def test_embedding(adata):
    ax = sc.pl.embedding(adata, basis="flda", color="axon", show=False)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), adata.obsm["X_flda"][:, :2], rtol=1e-5)
    # the colours that scanpy has chosen are those of the other figures
    legend = flda.pl.scores(adata, "axon_1", "axon_2", color="axon").collections[1]
    assert np.allclose(legend.get_facecolor()[0][:3], ax.get_legend().legend_handles[0].get_facecolor()[0][:3])
    sc.pl.embedding(adata, basis="X_flda", dimensions=[(0, 1), (1, 2)], color=["dendrite", "axon"], show=False)


def test_the_ranking_is_scanpys(adata):
    table = sc.get.rank_genes_groups_df(adata, group=None, key=KEY)
    assert table["group"].nunique() == 7
    own = flda.get.rank_genes_df(adata).groupby("axis", sort=False).head(10)
    firsts = table.groupby("group", sort=False, observed=True).head(10)
    assert firsts["names"].tolist() == own["gene"].tolist()
    np.testing.assert_allclose(firsts["scores"], own["score"], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rank_genes_groups", {}),
        ("rank_genes_groups_dotplot", {"groupby": "subtype", "dendrogram": False}),
        ("rank_genes_groups_matrixplot", {"groupby": "subtype", "dendrogram": False}),
        ("rank_genes_groups_stacked_violin", {"groupby": "axon", "dendrogram": False}),
        ("rank_genes_groups_heatmap", {"groupby": "subtype", "dendrogram": False}),
        ("rank_genes_groups_tracksplot", {"groupby": "axon", "dendrogram": False}),
    ],
)
def test_scanpys_figures_of_the_ranking(adata, name, options):
    getattr(sc.pl, name)(adata, key=KEY, n_genes=3, show=False, **options)


def test_new_cells_fall_where_they_belong(adata, cells, tmp_path):
    adata.write_h5ad(tmp_path / "reference.h5ad")
    new = cells[500:].copy()
    preprocess(new)
    flda.tl.transform(new, read_h5ad(tmp_path / "reference.h5ad"))
    model = flda.FLDA(shrinkage=adata.uns["flda"]["fit"]["shrinkage"])
    used = adata.var["highly_variable"].to_numpy()
    model.fit(adata.X[:, used], adata.obs[["dendrite", "axon"]])
    np.testing.assert_allclose(new.obsm["X_flda"], model.transform(new.X[:, used]), atol=1e-5)
    side = new.obsm["X_flda"][:, 0] > 0
    # the first axis tells T4 from T5 in cells that were not fitted
    agreement = np.mean(side == (new.obs["dendrite"] == "T4").to_numpy())
    assert max(agreement, 1 - agreement) > 0.9
    sc.pl.embedding(new, basis="flda", color="dendrite", show=False)
