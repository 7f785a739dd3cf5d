"""What the project promises to those who package it, join it, or read it with a program."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ON_CONDA_FORGE = {"matplotlib": "matplotlib-base"}  # where the name is another one


def load(path):
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="the wheel is built by hatchling, of the extra 'test'")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode("utf-8"))


def test_the_wheel_is_typed_and_has_all_files_of_the_package(wheel):
    names = set(wheel.namelist())
    assert "flda/py.typed" in names
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "flda").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"flda/_manifests/{path.name}" for path in (ROOT / "data_manifests").glob("*.json")}
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {"flda", f"flda-{PROJECT['version']}.dist-info"}


def test_the_metadata_name_version_licence_and_addresses(metadata):
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "BSD-3-Clause"
    addresses = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert addresses == PROJECT["urls"]
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} <= set(addresses)


def test_the_version_is_the_same_everywhere():
    assert load("CITATION.cff")["version"] == PROJECT["version"]
    assert load("conda/recipe.yaml")["context"]["version"] == PROJECT["version"]
    assert load("ecosystem/meta.yaml")["version"] == PROJECT["version"]
    heading = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert heading[1] == PROJECT["version"]


def test_the_entry_of_the_ecosystem_is_the_project():
    entry = load("ecosystem/meta.yaml")
    required = {"name", "description", "project_home", "documentation_home", "install", "license", "tags", "version"}
    assert required <= set(entry)
    assert entry["name"] == entry["install"]["pypi"] == PROJECT["name"]
    assert entry["license"] == PROJECT["license"]
    assert entry["project_home"] == PROJECT["urls"]["Source"]
    assert entry["documentation_home"] == PROJECT["urls"]["Documentation"]
    dois = {reference.get("doi") for reference in load("CITATION.cff")["references"]}
    assert set(entry["publications"]) <= dois


def test_the_citation_names_both_papers_and_the_paper_cites_what_it_lists():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert "1265079" in text
    assert "arXiv:2010.02171" in text
    paper, library = ((ROOT / "paper" / name).read_text("utf-8") for name in ("paper.md", "paper.bib"))
    cited = set(re.findall(r"@([\w]+)", paper.split("---", 2)[2]))
    assert cited == set(re.findall(r"^@\w+\{(\w+),", library, re.MULTILINE))
    for part in (  # those that the Journal of Open Source Software asks for
        "Summary", "Statement of need", "State of the field", "Software design", "Research impact statement",
        "AI usage disclosure", "Acknowledgements", "References",
    ):  # fmt: skip
        assert f"# {part}\n" in paper
    assert 750 <= len(paper.split("---", 2)[2].split()) <= 1750


def test_the_recipe_has_the_requirements_of_the_project():
    recipe = load("conda/recipe.yaml")
    python = recipe["context"]["python_min"]
    assert PROJECT["requires-python"] == f">={python}"
    run = {line.replace("${{ python_min }}", python) for line in recipe["requirements"]["run"]}
    wanted = {f"python >={python}"}
    for line in PROJECT["dependencies"]:
        name, lowest = re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups()
        wanted.add(f"{ON_CONDA_FORGE.get(name, name)} >={lowest}")
    assert run == wanted
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    assert {line.replace(">=", " >=") for line in build} <= set(recipe["requirements"]["host"])
    scripts = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    assert recipe["about"]["license"] == PROJECT["license"]
    assert (ROOT / "conda" / recipe["source"]["path"] / recipe["about"]["license_file"]).is_file()


def test_the_recipe_tests_what_exists():
    imports = [
        name for test in load("conda/recipe.yaml")["tests"] for name in test.get("python", {}).get("imports", [])
    ]
    assert imports
    for name in imports:
        importlib.import_module(name)


def test_the_workflow_runs_what_ci_runs():
    steps = load(".github/workflows/ci.yml")["jobs"]["ci"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]
    (pythons,) = (step["with"]["python-version"].split() for step in steps if "setup-python" in step.get("uses", ""))
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert set(pythons) == set(re.findall(r"python_of (\d\.\d+)", script)) == {"3.11", "3.13"}
    page = (ROOT / "docs" / "versions.md").read_text("utf-8")
    tested = next(line.split("|")[2] for line in page.splitlines() if line.startswith("| Python"))
    assert set(re.findall(r"3\.\d\d", tested)) == set(pythons)


def test_ci_runs_tests_that_exist():
    paths = re.findall(r"(?<!\S)tests/[\w./]*", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_the_tests_need_no_coverage():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]["addopts"]
    assert not [o for o in options if "cov" in o], "python -m pytest works without pytest-cov"


def test_the_hooks_are_the_checks_of_ci():
    config = load(".pre-commit-config.yaml")
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    for start in ("ruff check", "ruff format", "mypy", "end-of-file-fixer"):
        assert any(entry.startswith(start) for entry in entries)
    extras = PROJECT["optional-dependencies"]["dev"]
    for tool in ("ruff", "mypy", "pre-commit"):
        assert any(line.startswith(f"{tool}>=") for line in extras)


def test_the_hosted_documentation_is_the_one_that_is_tested():
    config = load(".readthedocs.yaml")
    assert config["version"] == 2
    assert (ROOT / config["sphinx"]["configuration"]).is_file()
    assert config["sphinx"]["fail_on_warning"]
    (install,) = config["python"]["install"]
    assert set(install["extra_requirements"]) <= set(PROJECT["optional-dependencies"])


LLMS = (ROOT / "llms.txt").read_text("utf-8")


def test_llms_txt_has_the_parts_of_its_format():
    blocks = [block for block in re.split(r"\n{2,}", LLMS) if block]
    assert blocks[0] == f"# {PROJECT['name']}"
    assert all(line.startswith("> ") for line in blocks[1].splitlines())
    sections = re.split(r"^## .+\n+", LLMS, flags=re.MULTILINE)[1:]
    assert sections
    for line in "\n".join(sections).splitlines():
        assert not line or re.fullmatch(r"- \[[^\]]+\]\([^)]+\): .+", line), line


def test_llms_txt_links_to_files_that_exist():
    links = re.findall(r"\]\(([^)]+)\)", LLMS)
    assert len(links) == len(set(links)) > 10
    assert not [link for link in links if not (ROOT / link).is_file()]


def test_the_ten_calls_of_llms_txt_can_be_made():
    (code,) = re.findall(r"^```python\n(.*?)^```", LLMS, re.MULTILINE | re.DOTALL)
    calls = [statement.value for statement in ast.parse(code).body]
    assert len(calls) == 10
    for call in calls:
        module, _, name = ast.unparse(call.func).rpartition(".")
        function = getattr(importlib.import_module(module), name)
        inspect.signature(function).bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


def test_those_who_join_find_the_rules():
    conduct = (ROOT / "CODE_OF_CONDUCT.md").read_text("utf-8")
    addresses = re.findall(r"[\w.]+@([\w.]+\w)", conduct)
    assert set(addresses) == {"example.org"}, "an address that is in use belongs to whoever answers it"
    assert "CODE_OF_CONDUCT.md" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")
