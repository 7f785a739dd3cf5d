"""The documentation names every public name, its code runs, and it builds without a warning."""

import importlib
import inspect
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import flda

ROOT = Path(__file__).parents[1]
API = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
MODULES = re.findall(r"^\.\. automodule:: (\S+)$", API, re.MULTILINE)
# names that have an entry of their own: in flda and in flda.circuits
SINGLE = {
    f"{module}.{name}"
    for part in re.split(r"(?=^\.\. currentmodule:: )", API, flags=re.MULTILINE)
    for module in re.findall(r"^\.\. currentmodule:: (\S+)$", part, re.MULTILINE)
    for name in re.findall(r"^\.\. auto(?:class|function):: (\S+)$", part, re.MULTILINE)
}
NEED_JAX = ("flda.circuits.optim",)


def public_names(module):
    """Functions and classes that a module offers: those of ``__all__``, else those defined in it."""
    listed = getattr(module, "__all__", None)
    for name in listed or dir(module):
        thing = getattr(module, name)
        own = listed is not None or getattr(thing, "__module__", None) == module.__name__
        if own and not name.startswith("_") and (inspect.isfunction(thing) or inspect.isclass(thing)):
            yield name, thing


def blocks(page):
    """The Python code of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_module_of_the_package_has_its_page():
    expected = {f"flda.{name}" for name in flda.__all__ if inspect.ismodule(getattr(flda, name))} - {"flda.circuits"}
    assert expected <= set(MODULES)
    assert {f"flda.{name}" for name in flda.__all__ if inspect.isclass(getattr(flda, name))} <= SINGLE


def test_every_name_of_circuits_is_documented():
    modules = {name.rpartition(".")[2] for name in MODULES if name.startswith("flda.circuits.")}
    lacking = {f"flda.circuits.{name}" for name in set(flda.circuits.__all__) - modules} - SINGLE
    assert not lacking, f"add these to docs/api/circuits.md: {sorted(lacking)}"


def test_what_is_public_has_a_docstring():
    for name in MODULES:
        if name not in NEED_JAX:
            for function, thing in public_names(importlib.import_module(name)):
                assert inspect.getdoc(thing), f"{name}.{function} has no docstring: it would be left out of the pages"


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    pytest.importorskip("scanpy", reason="needs the extra 'scanpy'")
    monkeypatch.chdir(tmp_path)  # the README's example writes a report
    monkeypatch.setattr("matplotlib.pyplot.show", lambda *_, **__: None)
    (code,) = blocks("README.md")
    space = {}
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # those of a user, not those of the suite
        exec(compile(code, "README.md", "exec"), space)
    certificate = flda.get.certificate_df(space["adata"]).set_index(["axis", "genes"])
    assert (tmp_path / "report.html").exists()
    found = certificate.loc[("dendrite_1", "all")]  # what the README says of it
    assert found["snr"] == pytest.approx(17.7, rel=0.05)
    assert found["crosstalk"] == pytest.approx(0.01, abs=0.02)


def test_the_readme_is_short_and_ci_finds_its_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 850
    lines = text.splitlines()
    demo, tests = (next(line for line in lines if phrase in line) for phrase in ("flda demo", "m pytest"))
    assert demo == "python3.11 -m pip install -e . && python3.11 -m flda demo"
    assert tests == 'python3.11 -m pip install -e ".[test]" && python3.11 -m pytest'


def prose(path):
    """The Markdown of a page or of a notebook, without blocks of code."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchor(heading):
    """What a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading.lower())).strip().replace(" ", "-")


PAGES = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/api/*.md",
        "docs/studies/*.ipynb",
        "tutorials/*.ipynb",
        "benchmarks/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
]


@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere_in_the_repository(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        name, _, place = target.partition("#")
        if not name.startswith("http"):
            there = page.parent / name if name else page
            assert there.exists(), target
            assert "docs/tutorials" not in str(there), f"{target}: a copy, which is not in the repository"
            assert not place or place in map(anchor, re.findall(r"^#+ (.*)$", prose(there), re.MULTILINE)), target


def test_the_readme_links_to_what_newcomers_ask_first():
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert {"docs/questions.md", "docs/real_data.md", "docs/workflow.md", "docs/limits.md"} <= set(targets)


def test_tutorials_are_listed_and_pages_exist():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = {line for line in index.splitlines() if re.fullmatch(r"[\w/]+", line)}
    here = {f"tutorials/{path.stem}" for path in (ROOT / "tutorials").glob("*.ipynb")}
    here |= {f"studies/{path.stem}" for path in (ROOT / "docs" / "studies").glob("*.ipynb")}
    here |= {f"api/{path.stem}" for path in (ROOT / "docs" / "api").glob("*.md")}
    here |= {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert listed == here


@pytest.mark.slow
def test_the_documentation_builds_without_warnings_and_holds_every_name(tmp_path):
    pytest.importorskip("myst_nb", reason="needs the extra 'docs'")
    pytest.importorskip("optax", reason="needs the extra 'circuits'")
    from sphinx.util.inventory import InventoryFile

    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    inventory = InventoryFile.loads((tmp_path / "objects.inv").read_bytes(), uri="")
    documented = {name for kind, names in inventory.data.items() if kind.startswith("py:") for name in names}
    wanted = {f"{m}.{name}" for m in MODULES for name, _ in public_names(importlib.import_module(m))} | SINGLE
    assert wanted <= documented, sorted(wanted - documented)
