"""The output folder: whole or absent, and no file of others is ever lost."""

import json

import pytest

from flda.cli._folder import UsageError, whole_folder, write_summary


def write(out, text="new", overwrite=True, **options):
    with whole_folder(out, overwrite=overwrite, **options) as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / "a.png").write_text(text)
        write_summary(folder, {"text": text})


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_the_summary_lists_the_files(tmp_path):
    write(tmp_path / "deep" / "out")
    summary = json.loads((tmp_path / "deep" / "out" / "summary.json").read_text())
    assert summary == {"text": "new", "files": ["figures/a.png", "summary.json"]}


def test_an_earlier_folder_is_replaced_on_request_only(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(UsageError, match="--overwrite"):
        write(tmp_path / "out", overwrite=False)
    assert contents(tmp_path / "out")["figures/a.png"] == "old"
    write(tmp_path / "out")
    assert contents(tmp_path / "out")["figures/a.png"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", overwrite=False)
    assert "summary.json" in contents(tmp_path / "out")


@pytest.mark.parametrize("name", ["notes.txt", "figures/mine.png", "deep/er/x.h5ad"])
def test_a_folder_with_a_file_of_others_is_refused(tmp_path, name):
    write(tmp_path / "out", "old")
    (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=name):
        write(tmp_path / "out")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("summary", ["{}", "no json", '{"files": 3}', "[]"])
def test_a_summary_of_others_is_no_licence(tmp_path, summary):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text(summary)
    with pytest.raises(UsageError, match=r"summary\.json"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "summary.json").read_text() == summary


def test_a_file_that_is_added_during_the_work_is_kept(tmp_path):
    write(tmp_path / "out", "old")
    folder = whole_folder(tmp_path / "out", overwrite=True)
    write_summary(folder.__enter__(), {})
    (tmp_path / "out" / "added.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"added\.txt"):
        folder.__exit__(None, None, None)
    assert set(contents(tmp_path / "out")) == {"added.txt", "figures/a.png", "summary.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_earlier_folder(tmp_path, error):
    write(tmp_path / "out", "old")
    folder = whole_folder(tmp_path / "out", overwrite=True)
    (folder.__enter__() / "half").write_text("new")
    assert not folder.__exit__(error, error("stop"), None)  # the error goes on
    assert contents(tmp_path / "out")["figures/a.png"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_files_links_inputs_and_the_current_folder_are_refused(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "file").write_text("x")
    for name in ("link", "file"):
        with pytest.raises(UsageError, match=name):
            write(tmp_path / name)
    with pytest.raises(UsageError, match=r"summary\.json"):
        write(tmp_path / "out", inputs=[tmp_path / "out" / "summary.json"])
    monkeypatch.chdir(tmp_path / "out" / "figures")
    for name in (".", "..", tmp_path):
        with pytest.raises(UsageError, match="current folder"):
            write(tmp_path / "out" / "figures" / name)
    assert contents(tmp_path / "out")["figures/a.png"] == "old"
