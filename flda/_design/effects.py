"""The effects of a design: its factors and their interactions."""

from __future__ import annotations

from collections.abc import Iterable

SEPARATOR = ":"


class Effect(tuple[str, ...]):
    """An effect, which is the tuple of its factors: one factor for a main effect, several for an interaction.

    Examples
    --------
    >>> Effect(("dendrite", "axon")).name
    'dendrite:axon'
    >>> Effect.parse("dendrite:axon")
    ('dendrite', 'axon')
    """

    __slots__ = ()

    @classmethod
    def parse(cls, effect: str | Iterable[str]) -> Effect:
        """Return the effect that is named ``"a:b"``, or that consists of the factors ``("a", "b")``."""
        return cls(effect.split(SEPARATOR) if isinstance(effect, str) else effect)

    @property
    def name(self) -> str:
        """The factors joined by a colon, as in ``"dendrite:axon"``."""
        return SEPARATOR.join(self)
