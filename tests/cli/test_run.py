import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad

import flda
from flda.cli._commands import main


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "cells.h5ad"
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    adata.obs["broken"] = pd.Categorical(np.where(adata.obs["subtype"] == "T5d", "x", adata.obs["dendrite"]))
    adata.write_h5ad(path)
    return path


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture
def no_figures(monkeypatch):
    """Runs that are about something else need not draw."""
    monkeypatch.setattr(flda.report, "pictures", lambda adata: [])


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


def test_run_writes_the_folder(file, tmp_path, capsys):
    out = tmp_path / "deep" / "results"
    assert run("run", file, "--factors", "dendrite", "axon", "--shrinkage", "0.3", "--n-genes", "5", "--out", out) == 0
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
    pd.testing.assert_frame_equal(result.uns["flda"]["certificate"], certificate, check_dtype=False, rtol=1e-6)
    assert np.isfinite(result.obsm["X_flda_held_out"]).all()
    page = (out / "report.html").read_text()
    assert page.count("<img ") == len(figures)
    assert "<title>cells.h5ad</title>" in page
    assert len(page) < 3e6
    assert run("report", out / "result.h5ad") == 2  # it is there already
    assert run("report", out / "result.h5ad", "--out", tmp_path / "again.html", "--title", "cells.h5ad") == 0
    assert (tmp_path / "again.html").read_text() == page
    assert [p.name for p in out.parent.iterdir()] == ["results"]  # no temporary folder is left


@pytest.mark.usefixtures("no_figures")
def test_rankings_are_byte_identical(file, tmp_path):
    for name in "ab":
        run("run", file, "--factors", "dendrite", "axon", "--out", tmp_path / name)
    for table in ("gene_rankings.csv", "axes.csv", "certificate.csv", "design.csv"):
        assert (tmp_path / "a" / table).read_bytes() == (tmp_path / "b" / table).read_bytes()


@pytest.mark.usefixtures("no_figures")
def test_options_reach_the_fit(file, tmp_path):
    out = tmp_path / "out"
    options = "--interactions none --nuisance donor --penalty inf --n-comps 1 --shrinkage oas --seed 3"
    assert run("run", file, "--factors", "dendrite", "axon", *options.split(), "--out", out) == 0
    assert pd.read_csv(out / "axes.csv")["axis"].tolist() == ["dendrite_1", "axon_1"]
    params = json.loads((out / "summary.json").read_text())["params"]
    assert params["nuisance"] == ["donor"]
    assert params["penalty"] == float("inf")
    assert params["random_state"] == 3


@pytest.mark.usefixtures("no_figures")
def test_demo(tmp_path, capsys, monkeypatch):
    small = flda.datasets.t4t5_simulated(n_obs=400, n_vars=200)
    monkeypatch.setattr(flda.datasets, "t4t5_simulated", lambda: small)
    monkeypatch.chdir(tmp_path)
    assert run("demo") == 0
    assert run("demo") == 0  # an earlier demo is replaced
    out = capsys.readouterr().out
    assert "not real data" in out
    assert "of the 20 selected genes are planted" in out
    assert sorted(p.name for p in (tmp_path / "flda_demo").iterdir()) == OUTPUTS


def test_check(file, capsys):
    assert run("check", file, "--factors", "dendrite", "axon", "--nuisance", "donor") == 0
    out = capsys.readouterr().out
    assert "300 cells x 100 genes" in out
    assert "nuisance, no axes" in out
    assert "dendrite:axon" in out
    assert run("check", file, "--factors", "broken", "axon") == 0
    assert "cannot be estimated" in capsys.readouterr().out


def test_datasets(capsys):
    assert run("datasets", "list") == 0
    assert "rnamix" in capsys.readouterr().out
    assert run("datasets", "fetch", "nope") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "{file}", "--factors", "dendrit", "axon"], "did you mean 'dendrite'"),
        (["run", "{dir}/none.h5ad", "--factors", "a"], "there is no file"),
        (["run", "{dir}/text.h5ad", "--factors", "a"], "cannot read {dir}/text.h5ad as h5ad"),
        (["run", "{dir}/cut.h5ad", "--factors", "dendrite"], "cannot read {dir}/cut.h5ad as h5ad"),
        (["run", "{file}", "--factors", "dendrite", "axon", "--out", "{dir}/text.h5ad"], "is a file"),
        (["run", "{file}", "--factors", "dendrite", "axon", "--out", "{dir}"], "exists; name another folder"),
        (
            ["run", "{file}", "--factors", "dendrite", "axon", "--out", "{dir}", "--overwrite"],
            "flda did not write",
        ),
        (["run", "{file}", "--factors", "dendrite", "axon", "--out", "/proc/x"], "cannot write to /proc"),
        (
            ["run", "{file}", "--factors", "dendrite", "axon", "--shrinkage", "lw", "--out", "{dir}/o"],
            "'ledoit-wolf'",
        ),
        (
            [
                "run",
                "{file}",
                "--factors",
                "broken",
                "axon",
                "--interactions",
                "broken:axon",
                "--out",
                "{dir}/o",
            ],
            "cannot estimate",
        ),
        (["check", "{file}", "--factors", "nothing"], "no column 'nothing'"),
        (["report", "{file}"], "holds no results of flda under the key 'flda'"),
        (["report", "{dir}/text.h5ad"], "cannot read {dir}/text.h5ad as h5ad"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(file, tmp_path, capsys, arguments, message):
    (tmp_path / "text.h5ad").write_text("not an h5ad file")
    (tmp_path / "cut.h5ad").write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    before = sorted(tmp_path.iterdir())
    names = {"file": str(file), "dir": str(tmp_path)}
    assert run(*(a.format(**names) for a in arguments)) == 2
    err = capsys.readouterr().err
    assert message.format(**names) in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("no_figures")
def test_an_existing_result_is_replaced_on_request_only(file, tmp_path):
    out = tmp_path / "out"
    arguments = ["run", file, "--factors", "dendrite", "axon", "--shrinkage", "0.3", "--out", out]
    assert run(*arguments) == 0
    assert run(*arguments) == 2
    assert run(*arguments, "--overwrite") == 0


def test_warnings_reach_the_report_once(tmp_path, capsys, no_figures):
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=60)
    adata.X = adata.layers["counts"]
    adata[adata.obs["subtype"] != "T5c"].write_h5ad(tmp_path / "x.h5ad")
    out = tmp_path / "out"
    options = "--shrinkage 0.3 --n-genes 4 --path 2 5"
    assert run("run", tmp_path / "x.h5ad", "--factors", "dendrite", "axon", *options.split(), "--out", out) == 0
    err = capsys.readouterr().err.splitlines()
    assert sum("looks like raw counts" in line for line in err) == 1
    assert sum("interaction left out" in line for line in err) == 1
    page = (out / "report.html").read_text()
    kept = read_h5ad(out / "result.h5ad").uns["flda"]
    assert [w for w in kept["warnings"] if w in page.replace("&#x27;", "'")] == list(kept["warnings"])
    assert len(kept["warnings"]) == len(err)
    assert sorted(set(kept["path"]["n_genes"])) == [2, 5]


def test_on_a_terminal_every_step_is_a_line(file, tmp_path, capsys, monkeypatch, no_figures):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    out = tmp_path / "out"
    assert run("run", file, "--factors", "dendrite", "axon", "--shrinkage", "0.3", "--n-genes", "4", "--out", out) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("flda: ")]
    steps = [line.split()[1] for line in lines]
    assert steps == ["flda:", "rank_genes:", "certify:", "held_out_scores:", "report:"]
    assert all(line.endswith(" s)") for line in lines)


def test_the_module_is_a_command_too(file):
    done = subprocess.run([sys.executable, "-m", "flda", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"flda {flda.__version__}"


def test_interrupt_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "flda", "demo", "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout.readline().startswith("simulated")  # the work has begun
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert err == "flda: stopped; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error():
    code = (
        "import os, sys; from flda import cli\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
        "sys.stdout = open(1, 'w', buffering=1)\n"
        "sys.exit(cli.main(['datasets', 'list']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")
