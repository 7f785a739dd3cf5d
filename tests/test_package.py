"""Conventions of the public functions."""

import inspect

import pytest

import flda

PUBLIC = [
    (module.__name__, name, function)
    for module in (flda.tl, flda.get, flda.pl, flda.pp, flda.datasets, flda.inference, flda.metrics)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if name in getattr(module, "__all__", [name]) and not name.startswith("_")
    if function.__module__ == module.__name__ or hasattr(module, "__all__")
]


@pytest.mark.parametrize(("module", "name", "function"), PUBLIC)
def test_public_functions(module, name, function):
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 4, "options are keyword-only"
    assert all(p.annotation is not p.empty or p.name in ("X", "y", "donor", "groups") for p in parameters)
    assert function.__doc__
    if module in ("flda.tl", "flda.get", "flda.pl", "flda.pp"):
        of_results = module == "flda.pl" and name == "power"  # its table is in no AnnData
        assert positional[0].name == ("found" if of_results else "adata")
    if "copy" in inspect.signature(function).parameters:
        assert inspect.signature(function).parameters["copy"].default is False
