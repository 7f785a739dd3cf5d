"""The effects of a design: its factors, parts of them, their interactions, and named contrasts."""

from __future__ import annotations

from collections.abc import Iterable

SEPARATOR = ":"


class Effect(tuple[str, ...]):
    """An effect: one name for a main effect or a named contrast, several for an interaction.

    A name is that of a factor, as in ``"drug"``, or of a part of a numeric factor, as in ``"dose.linear"``
    (:mod:`flda._design.trends`).

    Examples
    --------
    >>> Effect(("dendrite", "axon")).name
    'dendrite:axon'
    >>> Effect.parse("drug:dose.linear")
    ('drug', 'dose.linear')
    """

    __slots__ = ()

    @classmethod
    def parse(cls, effect: str | Iterable[str]) -> Effect:
        """Return the effect that is named ``"a:b"``, or that consists of the names ``("a", "b")``."""
        return cls(effect.split(SEPARATOR) if isinstance(effect, str) else effect)

    @property
    def name(self) -> str:
        """The names joined by a colon, as in ``"dendrite:axon"``."""
        return SEPARATOR.join(self)
