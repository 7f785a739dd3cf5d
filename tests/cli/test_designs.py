"""Formulas, numbers and contrasts on the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from flda.cli import main
from flda.cli._arguments import _contrast, _numeric

from simulated import dosed


@pytest.fixture
def file(tmp_path):
    dosed().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def test_run(file, tmp_path, capsys):
    pytest.importorskip("formulaic", reason="needs the extra formula")
    out = tmp_path / "out"
    contrast = "top of b=drug:b,dose:8 vs drug:b,dose:0"
    options = ["--n-genes", "2", "--shrinkage", "0.2", "--folds", "2", "--permutations", "19"]
    design = ["--formula", "~ drug * dose + batch", "--nuisance", "batch", "--contrast", contrast]
    assert main(["run", str(file), *design, *options, "--out", str(out)]) == 0
    table = pd.read_csv(out / "gene_rankings.csv")
    expected = ["drug", "dose.linear", "drug:dose.linear", "top of b"]
    assert table["effect"].drop_duplicates().tolist() == expected
    assert pd.read_csv(out / "tests.csv")["effect"].tolist() == expected
    assert set(pd.read_csv(out / "certificate.csv")["effect"]) == set(expected)
    assert "top of b" in capsys.readouterr().out


def test_check(file, capsys):
    assert main(["check", str(file), "--factors", "drug", "dose", "--numeric", "dose:2", "--contrast",
                 "b=drug:b vs drug:a"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    for name in ("dose.linear", "dose.quadratic", "drug:dose.quadratic", "drug=b less drug=a"):
        assert name in out


def test_check_says_what_numbers_and_single_units_can_estimate(tmp_path, capsys):
    adata = dosed()
    rng = np.random.default_rng(0)
    adata.obs["age"] = rng.normal(size=adata.n_obs)
    adata.obs["same"] = adata.obs["dose"].astype(float) + 1e-9 * rng.normal(size=adata.n_obs)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    numbers = ["--nuisance", "age", "same", "--numeric", "dose", "age", "same"]
    assert main(["check", str(tmp_path / "cells.h5ad"), "--factors", "drug", "dose", *numbers]) == 0
    before = capsys.readouterr().out.partition("values of")[0]  # what follows looks at expression
    lines = {line.split()[0]: line for line in before.splitlines() if line.strip()}
    assert "values from" in lines["dose:"]
    assert "imprecise" not in lines["age.linear"]
    assert "cannot be estimated" in lines["same.linear"]
    first = adata[~adata.obs[["drug", "dose"]].duplicated()].copy()
    first.write_h5ad(tmp_path / "single.h5ad")
    assert main(["check", str(tmp_path / "single.h5ad"), "--factors", "drug", "dose"]) == 0
    out = capsys.readouterr().out
    assert "single units" in out
    assert "part of the noise" in out


def test_single_units_weighted_by_their_cells(tmp_path, capsys):
    adata = dosed()
    adata = adata[~adata.obs[["drug", "dose"]].duplicated()].copy()
    adata.obs["psbulk_cells"] = np.arange(5.0, 5 + adata.n_obs)
    adata.write_h5ad(tmp_path / "samples.h5ad")
    design = ["--factors", "drug", "dose", "--weights", "n_cells", "--error", "residual", "--interactions", "none"]
    options = ["--n-genes", "2", "--shrinkage", "0.2", "--folds", "2", "--permutations", "19", "--out"]
    assert main(["run", str(tmp_path / "samples.h5ad"), *design, *options, str(tmp_path / "out")]) == 0
    assert "degrees of freedom" in capsys.readouterr().out
    assert "what the effects leave" in (tmp_path / "out" / "report.html").read_text()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["params"]["weights"] == "psbulk_cells"
    assert summary["fit"]["error"] == "residual"


def test_bad_arguments(file, capsys):
    for design in (["--factors", "drug", "--formula", "~ drug"], ["--factors", "drug", "--contrast", "b"], []):
        with pytest.raises(SystemExit):
            main(["run", str(file), *design])
    assert main(["run", str(file), "--factors", "drug", "--numeric", "dose"]) == 2
    assert "numeric names 'dose'" in capsys.readouterr().err


def test_forms():
    assert _numeric("dose") == ("dose", 1)
    assert _numeric("a:b:2") == ("a:b", 2)
    assert _numeric("dose:trend") == ("dose", "trend")
    assert _contrast("x = a:1, b:p vs a:2 , b:p") == ("x", ({"a": "1", "b": "p"}, {"a": "2", "b": "p"}))
