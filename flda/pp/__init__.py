"""Preprocessing: AnnData in, AnnData out."""

from ._augment import augment

__all__ = ["augment"]
