"""The other commands, errors in one line, and how the program ends."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from anndata import read_h5ad

import flda
from flda.cli import main

FACTORS = ["--factors", "dendrite", "axon"]


def run(*arguments):
    return main([str(a) for a in arguments])


def test_check(file, capsys):
    assert run("check", file, *FACTORS, "--nuisance", "donor") == 0
    out = capsys.readouterr().out
    assert "300 cells x 100 genes" in out
    effects = dict(line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  "))
    assert effects["dendrite"] == "1 axis"
    assert effects["axon"] == effects["dendrite:axon"] == "3 axes"
    assert "no axes" in effects["donor"]
    assert run("check", file, "--factors", "broken", "axon") == 0
    assert "broken:axon" in capsys.readouterr().out


def test_datasets(capsys):
    assert run("datasets", "list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("rnamix", "mice_protein", "uch"))
    assert run("datasets", "fetch", "nope") == 2
    assert "'nope'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def result(file, tmp_path_factory):
    adata = flda.datasets.t4t5_simulated(n_obs=300, n_vars=100)
    flda.tl.flda(adata, ["dendrite", "axon"], shrinkage=0.5)
    flda.tl.rank_genes(adata, n_genes=4)
    path = tmp_path_factory.mktemp("ranked") / "result.h5ad"
    adata.write_h5ad(path)
    return path


def test_rank_sorts_again(result, tmp_path):
    out = tmp_path / "by_f.csv"
    assert run("rank", result, "--sort-by", "F", "--effect", "axon", "--out", out) == 0
    table = pd.read_csv(out)
    expected = flda.get.rank_genes_df(read_h5ad(result), "axon", sort_by="F")[flda.get.RANKING_COLUMNS]
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-6)
    assert run("rank", result, "--out", out) == 2
    assert run("rank", result, "--without-cancelling", "--out", out, "--overwrite") == 0
    assert set(pd.read_csv(out)["kind"]) == {"pure", "interaction-typical"}


def test_panel_writes_its_genes_and_judges_it(result, tmp_path, capsys):
    out = tmp_path / "panel.csv"
    assert run("panel", result, "--n-genes", 8, "--include", "gene_003", "--folds", 2, "--out", out) == 0
    table = pd.read_csv(out)
    assert len(table) == 8
    assert table.loc[table["included"], "gene"].tolist() == ["gene_003"]
    said = capsys.readouterr().out
    assert "panel" in said
    assert "dendrite_1" in said
    assert run("panel", result, "--n-genes", 8, "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("panel", result, "--n-genes", 3, "--exclude", "nobody", "--out", out, "--overwrite") == 2
    assert "nobody" in capsys.readouterr().err
    assert run("panel", result, "--n-genes", 3, "--no-certificate", "--out", out, "--overwrite") == 0
    assert len(pd.read_csv(out)) == 3


def test_rank_writes_files_for_gene_set_programs(result, tmp_path, capsys):
    out = tmp_path / "rnk"
    assert run("rank", result, "--rnk", out, "--sort-by", "pattern", "--without-cancelling") == 0
    adata = read_h5ad(result)
    assert {p.name for p in out.iterdir()} >= {"dendrite_1.rnk", "axon_3.rnk", "dendrite-axon_2.rnk", "summary.json"}
    table = pd.read_csv(out / "axon_3.rnk", sep="\t", header=None, names=["gene", "score"])
    expected = flda.get.preranked_df(adata, "axon_3", by="pattern", cancelling=False)
    pd.testing.assert_frame_equal(table, expected, rtol=1e-6)
    assert run("rank", result, "--rnk", tmp_path / "x", "--sort-by", "F") == 2
    assert "--sort-by score" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "{file}", "--factors", "dendrit", "axon"], "'dendrite'"),
        (["run", "{dir}/none.h5ad", "--factors", "a"], "{dir}/none.h5ad"),
        (["run", "{dir}/text.h5ad", "--factors", "a"], "{dir}/text.h5ad"),
        (["run", "{dir}/cut.h5ad", "--factors", "dendrite"], "{dir}/cut.h5ad"),
        (["run", "{file}", *FACTORS, "--out", "{dir}/text.h5ad"], "{dir}/text.h5ad"),
        (["run", "{file}", *FACTORS, "--out", "{dir}"], "--overwrite"),
        (["run", "{file}", *FACTORS, "--out", "{dir}", "--overwrite"], "cut.h5ad"),
        (["run", "{file}", *FACTORS, "--out", "/proc/x"], "/proc"),
        (["run", "{file}", *FACTORS, "--out", "{dir}/link", "--overwrite"], "{dir}/link"),
        (["run", "{file}", *FACTORS, "--out", "."], "--out"),
        (["run", "{file}", *FACTORS, "--shrinkage", "lw", "--out", "{dir}/o"], "'ledoit-wolf'"),
        (["run", "{file}", "--factors", "broken", "axon", "--interactions", "broken:axon", "--out", "{dir}/o"],
         "broken:axon"),
        (["check", "{file}", "--factors", "nothing"], "'nothing'"),
        (["report", "{file}"], "'flda'"),
        (["report", "{dir}/text.h5ad"], "{dir}/text.h5ad"),
        (["report", "{file}", "--out", "{dir}/cut.h5ad", "--overwrite"], "{dir}/cut.h5ad"),
        (["rank", "{file}", "--out", "{dir}/text.h5ad", "--overwrite"], "{dir}/text.h5ad"),
        (["predict", "{file}", "{file}", "--out", "{dir}/cut.h5ad", "--overwrite"], "{dir}/cut.h5ad"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_leave_nothing(file, tmp_path, capsys, arguments, named):
    (tmp_path / "text.h5ad").write_text("not an h5ad file")
    (tmp_path / "cut.h5ad").write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    names = {"file": str(file), "dir": str(tmp_path)}
    assert run(*(a.format(**names) for a in arguments)) == 2
    err = capsys.readouterr().err
    assert named.format(**names) in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_the_report_of_a_file_without_results_names_the_key(file, tmp_path, capsys):
    adata = flda.datasets.t4t5_simulated(n_obs=100, n_vars=50)
    adata.uns["flda"] = {"other": 1}
    adata.write_h5ad(tmp_path / "x.h5ad")
    assert run("report", tmp_path / "x.h5ad") == 2
    assert "'flda'" in capsys.readouterr().err
    assert run("report", file, "--key", "mine") == 2
    assert "'mine'" in capsys.readouterr().err


def test_the_module_is_a_command_too():
    done = subprocess.run([sys.executable, "-m", "flda", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"flda {flda.__version__}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(file, tmp_path, number, monkeypatch, capsys):
    def interrupted(*_, **__):
        os.kill(os.getpid(), number)
        for _ in range(100):  # the handler runs between two instructions
            pass

    monkeypatch.setattr(flda.tl, "certify", interrupted)
    # a shell that runs the tests in the background ignores SIGINT for them
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        options = ["--shrinkage", "0.3", "--n-genes", "2", "--out", tmp_path / "deep" / "out"]
        assert run("run", file, *FACTORS, *options) == 130
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert capsys.readouterr().err == "flda: stopped; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_error():
    code = (
        "import os, sys; from flda import cli\n"
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)\n"
        "sys.stdout = open(1, 'w', buffering=1)\n"
        "sys.exit(cli.main(['datasets', 'list']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_loads_none_of_the_analysis():
    code = "import sys; from flda.cli import main\ntry: main(['--help'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"anndata", "pandas", "matplotlib", "scipy.stats", "numba"} & set(done.stdout.split())


def test_predict_keeps_the_names_of_cells_beside_a_factor_called_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adata = flda.datasets.t4t5_simulated(120, 60)
    adata.obs["cell"] = adata.obs["dendrite"]
    flda.tl.flda(adata, ["cell", "axon"], shrinkage=0.5, interactions=None)
    adata.write_h5ad("fit.h5ad")
    for _ in range(2):  # the second time it replaces what it has written
        assert main(["predict", "fit.h5ad", "fit.h5ad", "--overwrite"]) == 0
    table = pd.read_csv("fit_predictions.csv")
    assert table.iloc[:, 0].tolist() == adata.obs_names.tolist()
    assert (table["cell"] == adata.obs["cell"].to_numpy()).mean() > 0.9
