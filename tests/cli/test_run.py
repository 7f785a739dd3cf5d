"""``flda run`` and ``flda demo``: the files of a results folder."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad

import flda
from flda._adata.record import Record
from flda.cli import main

FACTORS = ["--factors", "dendrite", "axon"]
OUTPUTS = [
    "axes.csv",
    "certificate.csv",
    "design.csv",
    "figures",
    "gene_rankings.csv",
    "report.html",
    "result.h5ad",
    "summary.json",
]


def run(*arguments):
    return main([str(a) for a in arguments])


def test_run_writes_the_folder(file, tmp_path, capsys):
    out = tmp_path / "deep" / "results"
    assert run("run", file, *FACTORS, "--shrinkage", "0.3", "--n-genes", "5", "--out", out) == 0
    printed = capsys.readouterr()
    assert sorted(p.name for p in out.iterdir()) == OUTPUTS
    assert "dendrite:axon_3" in printed.out
    assert printed.err == ""
    rankings = pd.read_csv(out / "gene_rankings.csv")
    assert list(rankings.columns) == flda.get.RANKING_COLUMNS
    assert rankings["selected"].sum() == 7 * 5
    assert b"\r" not in (out / "gene_rankings.csv").read_bytes()
    assert len(pd.read_csv(out / "design.csv")) == 8
    certificate = pd.read_csv(out / "certificate.csv")
    assert certificate["snr"].notna().all()
    assert certificate.groupby("genes").size().to_dict() == {"all": 7, "selected": 7}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["params"]["factors"] == ["dendrite", "axon"]
    result = read_h5ad(out / "result.h5ad")
    assert result.obsm["X_flda"].shape == (300, 7)
    assert (out / "figures" / "scores.png").stat().st_size > 10_000
    figures = {p.stem for p in (out / "figures").iterdir()}
    assert {"design", "certificate_all", "certificate_selected", "loadings", "scores_dendrite-axon_1"} <= figures
    pd.testing.assert_frame_equal(flda.get.certificate_df(result), certificate, check_dtype=False, rtol=1e-6)
    assert np.isfinite(result.obsm["X_flda_held_out"]).all()
    page = (out / "report.html").read_text()
    assert page.count("<img ") == len(figures)
    assert "<title>cells.h5ad</title>" in page
    assert len(page) < 3e6
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert set(summary["files"]) == files
    assert run("report", out / "result.h5ad") == 2  # it is there already
    assert run("report", out / "result.h5ad", "--out", tmp_path / "again.html", "--title", "cells.h5ad") == 0
    assert (tmp_path / "again.html").read_text() == page
    assert [p.name for p in out.parent.iterdir()] == ["results"]  # no temporary folder is left


@pytest.mark.usefixtures("no_figures")
def test_every_step_has_its_file(file, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--shrinkage", "0.3", "--n-genes", "4", "--permutations", "9", "--stability", "2", "--path", "2", "3"]
    assert run("run", file, *FACTORS, *options, "--out", out) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted([*OUTPUTS, "tests.csv", "stability.csv"])
    result = read_h5ad(out / "result.h5ad")
    for name, table in {"tests": "effect_tests_df", "stability": "stability_df"}.items():
        expected = getattr(flda.get, table)(result)
        pd.testing.assert_frame_equal(pd.read_csv(out / f"{name}.csv"), expected, check_dtype=False, rtol=1e-6)
    assert sorted(set(flda.get.path_df(result)["n_genes"])) == [2, 3]
    rankings = pd.read_csv(out / "gene_rankings.csv")
    assert rankings["frequency"].notna().all()
    assert rankings["pval"].notna().mean() > 0.9
    assert "(9 resamples" in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures")
def test_tables_are_byte_identical_between_runs(file, tmp_path):
    for name in "ab":
        assert run("run", file, *FACTORS, "--permutations", "9", "--n-genes", "4", "--out", tmp_path / name) == 0
    for table in ("gene_rankings.csv", "axes.csv", "certificate.csv", "design.csv", "tests.csv"):
        assert (tmp_path / "a" / table).read_bytes() == (tmp_path / "b" / table).read_bytes()


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("components", ["--n-components", "--n-comps"])
def test_options_reach_the_fit(file, tmp_path, components):
    out = tmp_path / "out"
    options = f"--interactions none --nuisance donor --penalty inf {components} 1 --shrinkage oas --seed 3".split()
    assert run("run", file, *FACTORS, *options, "--group-means", "shrunken", "--out", out) == 0
    assert pd.read_csv(out / "axes.csv")["axis"].tolist() == ["dendrite_1", "axon_1"]
    params = json.loads((out / "summary.json").read_text())["params"]
    expected = {"nuisance": ["donor"], "penalty": float("inf"), "random_state": 3, "group_means": "shrunken"}
    assert {name: params[name] for name in expected} == expected


@pytest.mark.usefixtures("no_figures")
def test_demo(tmp_path, capsys, monkeypatch):
    small = flda.datasets.t4t5_simulated(n_obs=200, n_vars=80)
    monkeypatch.setattr(flda.datasets, "t4t5_simulated", lambda: small.copy())
    monkeypatch.chdir(tmp_path)
    assert run("demo", "--shrinkage", "0.5") == 0
    before = (tmp_path / "flda_demo" / "summary.json").stat()
    assert run("demo") == 2  # an earlier demo is not replaced unasked
    assert (tmp_path / "flda_demo" / "summary.json").stat() == before
    out = capsys.readouterr().out
    assert "not real data" in out
    assert "of the 20 selected genes" in out
    assert sorted(p.name for p in (tmp_path / "flda_demo").iterdir()) == OUTPUTS


def test_warnings_reach_the_report_once(tmp_path, capsys, no_figures):
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)
    adata.X = adata.layers["counts"]
    adata[adata.obs["subtype"] != "T5c"].write_h5ad(tmp_path / "x.h5ad")
    out = tmp_path / "out"
    options = ["--shrinkage", "0.3", "--n-genes", "4", "--path", "2", "5"]
    assert run("run", tmp_path / "x.h5ad", *FACTORS, *options, "--out", out) == 2
    assert "--" not in capsys.readouterr().out  # the error goes to the other stream
    options.append("--allow-counts")
    assert run("run", tmp_path / "x.h5ad", *FACTORS, *options, "--out", out) == 0
    err = capsys.readouterr().err.splitlines()
    assert sum("dendrite:axon" in line for line in err) == 1
    page = (out / "report.html").read_text()
    kept = Record(read_h5ad(out / "result.h5ad")).warnings
    assert [w for w in kept if w in page.replace("&#x27;", "'")] == kept
    assert len(kept) == len(err)


def test_the_number_of_folds(file, tmp_path, no_figures, capsys):
    options = ["--shrinkage", "0.3", "--n-genes", "4", "--folds", "3"]
    assert run("run", file, *FACTORS, *options, "--out", tmp_path / "out") == 0
    assert "(3 folds)" in capsys.readouterr().out
    result = read_h5ad(tmp_path / "out" / "result.h5ad")
    assert set(pd.read_csv(tmp_path / "out" / "certificate.csv")["n_folds"]) == {3}
    again = result.copy()
    flda.tl.held_out_scores(again, n_folds=3)
    np.testing.assert_allclose(again.obsm["X_flda_held_out"], result.obsm["X_flda_held_out"])
    with pytest.raises(SystemExit):
        run("run", file, *FACTORS, "--folds", "1")
    assert "whole number from 2 on" in capsys.readouterr().err


def test_two_replicates_per_group_get_a_certificate(tmp_path, no_figures, capsys):
    adata = flda.datasets.t4t5_simulated(n_obs=600, n_vars=60)
    few = adata.obs.groupby(FACTORS[1:], observed=True).head(2).index
    adata[few].write_h5ad(tmp_path / "x.h5ad")
    options = ["--interactions", "none", "--n-genes", "3", "--shrinkage", "0.3", "--out", tmp_path / "out"]
    assert run("run", tmp_path / "x.h5ad", *FACTORS, *options) == 0
    table = pd.read_csv(tmp_path / "out" / "certificate.csv")
    assert set(table["scheme"]) == {"pooled"}
    assert set(table["n_folds"]) == {16}
    assert "(pooled)" in capsys.readouterr().out
    assert "pooled" in (tmp_path / "out" / "report.html").read_text()


def test_without_any_fold_the_rest_of_the_analysis_stands(tmp_path, capsys, no_figures):
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)
    adata.obs["single"] = adata.obs["dendrite"].map({"T4": "d1", "T5": "d2"})
    adata.write_h5ad(tmp_path / "x.h5ad")
    out = tmp_path / "out"
    options = ["--donor", "single", "--shrinkage", "0.3", "--n-genes", "4"]
    assert run("run", tmp_path / "x.h5ad", *FACTORS, *options, "--out", out) == 0
    assert "certificate.csv" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == [name for name in OUTPUTS if name != "certificate.csv"]


def test_on_a_terminal_every_step_is_a_line(file, tmp_path, capsys, monkeypatch, no_figures):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert run("run", file, *FACTORS, "--shrinkage", "0.3", "--n-genes", "4", "--out", tmp_path / "out") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("flda: ")]
    steps = [line.split()[1] for line in lines]
    assert steps == ["flda:", "rank_genes:", "certify:", "held_out_scores:", "report:"]
    assert all(line.endswith(" s)") for line in lines)
