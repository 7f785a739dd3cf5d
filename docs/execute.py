"""Run the tutorials and write them as notebooks with their outputs: ``python docs/execute.py [NAME.py ...]``.

Edit the ``.py`` files in ``tutorials/``; the notebooks are generated from them. Needs the extra ``tutorials``.
"""

import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

NOISE = ("it/s", "TqdmWarning")
FOLDER = Path(__file__).parents[1] / "tutorials"


def run(script: Path) -> None:
    notebook = jupytext.read(script)
    start = time.perf_counter()
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(FOLDER)}}).execute()
    seconds = time.perf_counter() - start
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{script.stem[:2]}-{number:02d}"  # the same when run again
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            # progress bars and messages about the terminal belong to this run only
            cell.outputs = [o for o in cell.outputs if not any(word in o.get("text", "") for word in NOISE)]
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    target = script.with_suffix(".ipynb")
    jupytext.write(notebook, target)
    print(f"{target.name}  {seconds:.0f} s  {target.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    for path in [FOLDER / name for name in sys.argv[1:]] or sorted(FOLDER.glob("[0-9]*.py")):
        run(path)
