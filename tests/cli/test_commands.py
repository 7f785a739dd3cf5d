"""The other commands, errors in one line, and how the program ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

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
def test_interrupt_leaves_nothing(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "flda", "demo", "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    while not list(tmp_path.iterdir()) and process.poll() is None:  # the temporary folder: the work has begun
        time.sleep(0.05)
    process.send_signal(number)
    err = process.communicate()[1]
    assert process.returncode == 130
    assert err == "flda: stopped; nothing was written\n"
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
