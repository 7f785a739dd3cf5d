"""Values of a parameter for every effect of a design: penalties and numbers of axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .design import Design
from .effects import Effect


def per_effect(parameter: str, value: Any, effects: Iterable[Effect], default: Any) -> dict[Effect, Any]:
    """Assign the value of a parameter to every effect, from one value for all or a mapping from effect names.

    Parameters
    ----------
    parameter
        Name of the parameter, for error messages.
    value
        One value for all effects, or a mapping from effect names to values.
    effects
        The effects that get a value.
    default
        The value of effects that a mapping does not name.

    Raises
    ------
    ValueError
        If a mapping names an effect that is not among ``effects``.
    """
    names = {e.name: e for e in effects}
    if not isinstance(value, Mapping):
        return dict.fromkeys(names.values(), value)
    for name in value:
        if name not in names:
            raise ValueError(
                f"{parameter} names the effect {name!r}; the fit has {list(names)}. Correct or remove that name."
            )
    return {e: value.get(name, default) for name, e in names.items()}


def effect_penalties(design: Design, penalty: float | Mapping[str, float]) -> dict[Effect, float]:
    """Return the penalty lambda_T of every effect T in the fit; effects that a mapping does not name get 1."""
    effects = [*design.contrasts, *(design.covariates.columns if design.covariates is not None else ())]
    out = {e: float(v) for e, v in per_effect("penalty", penalty, effects, 1.0).items()}
    for effect, value in out.items():
        if not value >= 0:
            raise ValueError(
                f"penalty of {effect.name!r} is {value}; it must be 0 or more (inf forbids any variation with it)."
            )
    return out


def effect_components(design: Design, n_components: int | Mapping[str, int] | None) -> dict[Effect, int]:
    """Return the number of axes of every effect; None means all useful ones, which are its degrees of freedom."""
    out = {}
    for effect, number in per_effect("n_components", n_components, design.effects, None).items():
        df = design.df(effect)
        if number is None:
            number = df
        elif not 1 <= number <= df:
            raise ValueError(
                f"n_components={number} for {effect.name!r}: its {df} degrees of freedom allow 1 to {df} useful axes. "
                "Use n_components=None, or a dict with a number for each effect."
            )
        out[effect] = int(number)
    return out
