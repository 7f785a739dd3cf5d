"""Every public name of flda.circuits has one address, and what needs no jax is there without it."""

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys

import pytest

from flda import circuits

NAMESPACES = ("optim", "simulate", "wiring")
NEED_JAX = ("optim",)


def public_modules():
    pytest.importorskip("optax", reason="needs the extra 'circuits'")
    return [circuits, *(getattr(circuits, name) for name in NAMESPACES)]


def test_modules_are_private_but_for_three_namespaces():
    found = {name for _, name, _ in pkgutil.walk_packages(circuits.__path__, "flda.circuits.")}
    public = {name for name in found if not any(part.startswith("_") for part in name.split("."))}
    assert public == {f"flda.circuits.{name}" for name in NAMESPACES}


def test_one_address_for_every_public_object():
    addresses = {}
    for module in public_modules():
        offered = {name for name in dir(module) if not name.startswith("_")}
        assert offered == set(module.__all__), f"{module.__name__} offers names that __all__ does not list"
        assert module.__all__ == sorted(module.__all__)
        for name in module.__all__:
            addresses.setdefault(id(getattr(module, name)), []).append(f"{module.__name__}.{name}")
    assert not [names for names in addresses.values() if len(names) > 1]


def test_modules_that_need_jax_are_the_lazy_names():
    assert set(NEED_JAX) <= set(circuits.__all__)


def public_objects():
    try:
        importlib.import_module("optax")
        modules = [circuits, *(getattr(circuits, name) for name in NAMESPACES)]
    except ImportError:
        return []
    found = [(f"{m.__name__}.{n}", getattr(m, n)) for m in modules for n in m.__all__]
    return [pytest.param(thing, id=name) for name, thing in found if not inspect.ismodule(thing)]


@pytest.mark.parametrize("thing", public_objects())
def test_docstrings_say_what_goes_in_and_comes_out(thing):
    """numpydoc sections for parameters and results, and an example; methods without an example have the others."""
    documented = {"": thing}
    if inspect.isclass(thing):
        documented |= {n: f for n, f in vars(thing).items() if not n.startswith(("_", "set_")) and inspect.isroutine(f)}
    for name, function in documented.items():
        text = inspect.getdoc(function) or ""
        parameters = inspect.signature(getattr(thing, name) if name else thing).parameters
        wanted = ["Examples"] if not name else []
        if set(parameters) - {"self"}:
            wanted.append("Attributes" if "Attributes\n---" in text and "Parameters\n---" not in text else "Parameters")
        if not inspect.isclass(function):
            wanted.append("Returns")
        missing = [section for section in wanted if f"{section}\n{'-' * len(section)}" not in text]
        assert not missing, f"{thing.__name__}.{name}: {missing}"
        assert text[0].isupper()
        assert text.splitlines()[0].endswith(".")


def test_the_core_needs_neither_circuits_nor_jax():
    code = (
        "import sys\n"
        "sys.modules['jax'] = sys.modules['optax'] = None\n"
        "import flda\n"
        "assert 'flda.circuits' not in sys.modules, 'the core must not import circuits'\n"
        "from flda import circuits\n"
        "circuits.simulate.retina_circuit('2').sample(3)\n"
        f"for name in {NEED_JAX}:\n"
        "    try:\n"
        "        getattr(circuits, name)\n"
        "    except ImportError as error:\n"
        "        assert 'pip install \"flda[circuits]\"' in str(error), error\n"
        "    else:\n"
        "        raise AssertionError(name)\n"
        "for name in set(circuits.__all__) - set(" + repr(NEED_JAX) + "):\n"
        "    getattr(circuits, name)\n"
        "try:\n"
        "    circuits.nonsense\n"
        "except AttributeError as error:\n"
        "    assert 'nonsense' in str(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr


def test_circuits_do_not_load_jax_before_it_is_needed():
    code = "import sys; from flda import circuits; assert not {'jax', 'optax'} & set(sys.modules), 'jax was loaded'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
