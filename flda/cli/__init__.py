"""Command line: ``flda demo``, ``flda run``, ``flda report``, ``flda check``, ``flda power``, ``flda datasets``."""

from ._arguments import parser

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    args = parser().parse_args(argv)
    from ._commands import execute  # after the arguments, because help needs none of the analysis

    return execute(args)
