"""``flda run --backed``: the matrix is read in blocks."""

import pandas as pd
from anndata import read_h5ad

from flda.cli import main

FACTORS = ["--factors", "dendrite", "axon"]


def test_the_rankings_are_those_of_data_in_memory(file, tmp_path, no_figures):
    tables = []
    for name, flags in {"memory": [], "disk": ["--backed"]}.items():
        out = tmp_path / name
        arguments = ["run", file, *FACTORS, "--n-genes", "3", "--shrinkage", "0.5", "--out", out, *flags]
        assert main([str(a) for a in arguments]) == 0
        tables.append(pd.read_csv(out / "gene_rankings.csv"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)
    assert read_h5ad(tmp_path / "disk" / "result.h5ad").shape == (300, 100)


def test_a_truncated_file_is_named(file, tmp_path, capsys):
    path, out = tmp_path / "x.h5ad", tmp_path / "out"
    content = file.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert main(["run", str(path), *FACTORS, "--backed", "--out", str(out)]) == 2
    assert str(path) in capsys.readouterr().err
    assert not out.exists()
