"""The output folder: whole or absent, and no file of others is ever lost."""

import errno
import hashlib
import json
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from flda.cli import _folder, _swap
from flda.cli._folder import UsageError, whole_file, whole_folder, write_summary, writing


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
    files = {"figures/a.png": hashlib.sha256(b"new").hexdigest(), "summary.json": None}
    assert summary == {"text": "new", "files": files}


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


@pytest.mark.parametrize("summary", ["{}", "no json", '{"files": 3}', "[]", '{"files": ["summary.json"]}'])
def test_a_summary_of_others_is_no_licence(tmp_path, summary):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text(summary)
    with pytest.raises(UsageError, match=r"summary\.json"):
        write(tmp_path / "out")
    assert (tmp_path / "out" / "summary.json").read_text() == summary


@pytest.mark.parametrize("name", ["figures/a.png", "figures"])
def test_a_file_that_was_changed_is_kept(tmp_path, name):
    write(tmp_path / "out", "old")
    if name == "figures":  # a folder of the same name and content that is a link to elsewhere
        (tmp_path / "out" / name).rename(tmp_path / "mine")
        (tmp_path / "out" / name).symlink_to(tmp_path / "mine")
    else:
        (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(UsageError, match=name):
        write(tmp_path / "out")
    assert len(list((tmp_path / "out" / "figures").iterdir())) == 1


def test_a_single_file_joins_the_manifest_of_its_folder_and_replaces_its_own_kind_only(tmp_path, capsys):
    write(tmp_path / "out", "old")

    def one(path, overwrite=True):
        with whole_file(path, overwrite=overwrite, own=lambda p: p.read_text() == "ours") as part:
            part.write_text("ours")

    for _ in range(2):
        one(tmp_path / "out" / "more.csv")
    assert str(tmp_path / "out" / "more.csv") in capsys.readouterr().out
    write(tmp_path / "out")  # nothing in it is a file of others
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    before = contents(tmp_path)
    for name in ("mine", "link", "out", "none/none"):
        with pytest.raises(UsageError, match=name.split("/")[0]):
            one(tmp_path / name)
    assert contents(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "mine", "out"]


# other tests of the process may have started threads; the child only writes files
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning", "ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_command_that_is_killed_leaves_the_old_folder_or_the_new_one(tmp_path, monkeypatch, moment, exchange):
    out = tmp_path / "out"
    write(out, "old")
    child = os.fork()
    if child == 0:
        real = _swap._exchange

        def killed(*folders):
            if moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            done = exchange and real(*folders)
            if moment == "between" and not done:
                folders[1].rename(folders[0].parent / "earlier")
            if moment != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        monkeypatch.setattr(_swap, "_exchange", killed)
        if moment == "after":
            monkeypatch.setattr(_folder.shutil, "rmtree", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        write(out, "new")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(tmp_path.glob(".out-*"))) == 1
    if out.exists():
        assert set(contents(out)) == {"figures/a.png", "summary.json"}
    expected = "new" if moment == "after" or (moment == "between" and exchange) else "old"
    with pytest.raises(UsageError, match="--overwrite"):  # the next command tidies up before it does anything else
        write(out, overwrite=False)
    assert contents(out)["figures/a.png"] == expected
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_living_command_or_another_program_left_is_not_touched(tmp_path):
    (tmp_path / ".out-mine").mkdir()
    (tmp_path / ".out-mine" / "notes").write_text("mine")
    with whole_folder(tmp_path / "out", overwrite=False):
        others = [p for p in tmp_path.iterdir() if p.name != ".out-mine"]
        with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "out", overwrite=False):
            raise ZeroDivisionError
        assert all(p.is_dir() for p in others)
    assert (tmp_path / ".out-mine" / "notes").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_until_the_folders_have_changed_places(tmp_path, monkeypatch, number):
    write(tmp_path / "out", "old")
    monkeypatch.setattr(_swap, "_exchange", lambda *_: os.kill(os.getpid(), number))  # falsy: two renames follow
    earlier = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "out", "new")
    finally:
        signal.signal(number, earlier)
    assert contents(tmp_path / "out")["figures/a.png"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError("Can't write (file write failed: errno = 28, error message = 'x')"),
        RuntimeError("Unable to synchronously close file (errno = 28, x)"),
    ],
)
def test_a_full_disk_is_said_with_the_path(tmp_path, error):
    with pytest.raises(UsageError, match=rf"{tmp_path}.*No space left"), writing(tmp_path):
        raise error
    with pytest.raises(RuntimeError, match="other"), writing(tmp_path):
        raise RuntimeError("other")


def test_a_failed_rename_brings_the_earlier_folder_back(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    monkeypatch.setattr(_swap, "_exchange", lambda new, _: new.rename(new.with_name("lost")) and False)
    with pytest.raises(UsageError, match="out"):
        write(tmp_path / "out")
    assert contents(tmp_path / "out")["figures/a.png"] == "old"


def test_an_error_removes_the_folders_that_were_made_for_the_output(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "a" / "b" / "out", overwrite=False):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


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


HDF5 = ("Set slist enabled failed (file write failed: {})", "Can't decrement id ref count ({})")


@pytest.mark.parametrize("text", HDF5)
def test_a_failed_write_of_hdf5_is_one_sentence_and_nothing_else(text, capsys):
    error = RuntimeError(text.format("errno = 28, error message = 'No space left on device'"))

    def write(error):
        with writing("out"):
            sys.unraisablehook(SimpleNamespace(exc_type=RuntimeError, exc_value=error, exc_traceback=None))
            sys.excepthook(RuntimeError, error, None)
            raise error

    with pytest.raises(UsageError, match=r"cannot write out: No space left on device"):
        write(error)
    assert capsys.readouterr().err == ""
