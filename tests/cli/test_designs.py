"""Formulas, numbers and contrasts on the command line."""

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
    pytest.importorskip("formulaic")
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
