"""What all commands share: JSON instead of text, errors in one line, and text that cannot command a terminal."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from cortex_pipelines.errors import CortexError

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command end with 2 and one line where it fails."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except CortexError as error:
            click.echo(f"cortex: {error}", err=True)
            sys.exit(2)

    return guarded


def visible(text: str) -> str:
    """Text of documents, names and models, with what a terminal would obey made visible."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)
