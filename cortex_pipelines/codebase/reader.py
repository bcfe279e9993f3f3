"""Source files read in a process of their own, so that a file which breaks its parser breaks nothing else."""

import json
from dataclasses import fields
from typing import Any

from cortex_pipelines.codebase.symbols import Code, Function, Import, Mark, Symbol, objection, read_code
from cortex_pipelines.confined import Worker, answer_questions

# The largest file that is read takes half a second; ten times that for a busy machine, and as much again.
SECONDS = 10.0
# 1 MB of the densest code has some 100,000 symbols.
ANSWER_BYTES = 64 * 2**20

_PARTS: dict[str, type[tuple[Any, ...]]] = {
    "symbols": Symbol,
    "imports": Import,
    "functions": Function,
    "notes": Mark,
    "hits": Mark,
    "duplicates": Mark,
}


class CodeReader(Worker):
    """Reads files one after another in one child process, which is replaced when a file ends it. A context manager."""

    def __init__(self) -> None:
        super().__init__(__name__, SECONDS, ANSWER_BYTES)

    def read(self, text: str, language: str) -> Code:
        """As `read_code`; a file that takes more than `SECONDS`, or more memory than there may be, is left out."""
        if reason := objection(text):
            return Code(language, text.count("\n") + 1, left_out=reason)
        try:
            return _decode(self.ask(json.dumps([text, language]).encode()))
        except TimeoutError:
            reason = f"its parser took more than {SECONDS:.0f} s"
        except (OSError, ValueError):
            reason = "its parser failed: it crashed or ran out of memory"
        return Code(language, text.count("\n") + 1, left_out=reason)


def serve() -> None:
    """The child: a text and its language in, its code out, both as JSON."""
    answer_questions(_answer)


def _answer(question: bytes) -> bytes:
    text, language = json.loads(question)
    code = read_code(text, language)
    return json.dumps([getattr(code, field.name) for field in fields(Code)]).encode()


def _decode(answer: bytes) -> Code:
    given = dict(zip((field.name for field in fields(Code)), json.loads(answer), strict=True))
    return Code(**given | {name: tuple(part(*row) for row in given[name]) for name, part in _PARTS.items()})
