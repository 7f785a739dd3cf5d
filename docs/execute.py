"""Run tutorials and studies and write them as notebooks with their outputs: ``python docs/execute.py [FILE.py ...]``.

Without a file, it runs all of ``tutorials/`` and ``docs/studies/``. Edit the ``.py`` files there; the notebooks are
generated from them. Needs the extra ``tutorials``. The studies need their data: a network, or ``FLDA_DATA_DIR``.
"""

import re
import resource
import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

NOISE = ("it/s", "TqdmWarning")
CELL = re.compile(r"\S*ipykernel_\d+[/\\]\d+\.py:\d+: ")  # the place of a cell on this machine, in front of a warning
ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "tutorials", ROOT / "docs" / "studies")


def processor_seconds() -> float:
    """Processor time of all kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(script: Path) -> None:
    notebook = jupytext.read(script)
    start, before = time.perf_counter(), processor_seconds()
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(script.parent)}}).execute()
    seconds = time.perf_counter() - start
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{script.stem.split('_')[0]}-{number:02d}"  # the same when run again
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            # progress bars and messages about the terminal belong to this run only
            cell.outputs = [o for o in cell.outputs if not any(word in o.get("text", "") for word in NOISE)]
            for output in cell.outputs:
                if "text" in output:
                    output["text"] = CELL.sub("", output["text"])
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    target = script.with_suffix(".ipynb")
    jupytext.write(notebook, target)
    used, size = processor_seconds() - before, target.stat().st_size / 1000
    print(f"{target.name}  {seconds:.0f} s, {used:.0f} s of processors, {size:.0f} kB", flush=True)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else (p for f in FOLDERS for p in sorted(f.glob("*.py"))):
        run(path.resolve())
