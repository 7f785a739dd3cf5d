"""Command line: ``flda demo``, ``flda run``, ``flda report``, ``flda check``, ``flda power``, ``flda datasets``."""

from ._commands import main

__all__ = ["main"]
