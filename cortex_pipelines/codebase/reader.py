"""Source files read in a process of their own, so that a file which breaks its parser breaks nothing else."""

import json
import os
import select
import sys
import time
from dataclasses import fields
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any

from cortex_pipelines.codebase import confined
from cortex_pipelines.codebase.symbols import Code, Function, Import, Mark, Symbol, objection, read_code

# The largest file that is read takes half a second; ten times that for a busy machine, and as much again.
SECONDS = 10.0
# 1 MB of the densest code has some 100,000 symbols.
ANSWER_BYTES = 64 * 2**20

_BLOCK = 2**20
_PARTS: dict[str, type[tuple[Any, ...]]] = {
    "symbols": Symbol,
    "imports": Import,
    "functions": Function,
    "notes": Mark,
    "hits": Mark,
    "duplicates": Mark,
}


class CodeReader:
    """Reads files one after another in one child process, which is replaced when a file ends it. A context manager."""

    def __init__(self) -> None:
        self._child: Popen[bytes] | None = None

    def __enter__(self) -> "CodeReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(self, text: str, language: str) -> Code:
        """As `read_code`; a file that takes more than `SECONDS`, or more memory than there may be, is left out."""
        if reason := objection(text):
            return Code(language, text.count("\n") + 1, left_out=reason)
        try:
            return _decode(self._ask(json.dumps([text, language]).encode()))
        except TimeoutError:
            reason = f"its parser took more than {SECONDS:.0f} s"
        except (OSError, ValueError):
            reason = "its parser failed: it crashed or ran out of memory"
        self._end()
        return Code(language, text.count("\n") + 1, left_out=reason)

    def _ask(self, question: bytes) -> bytes:
        if self._child is None:
            root = str(Path(__file__).parents[2])
            command = [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"]
            self._child = confined.start(command, talking=True, PYTHONPATH=os.pathsep.join([root, *sys.path]))
        asking, answering = self._child.stdin, self._child.stdout
        assert asking is not None and answering is not None
        deadline = time.monotonic() + SECONDS
        asking.write(question + b"\n")
        asking.flush()
        poll = select.poll()
        poll.register(answering, select.POLLIN)
        answer = bytearray()
        while not answer.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1_000):
                raise TimeoutError
            block = os.read(answering.fileno(), _BLOCK)
            answer += block
            if not block or len(answer) > ANSWER_BYTES:
                raise ConnectionError
        return bytes(answer)

    def _end(self) -> None:
        if self._child is not None:
            confined.stop(self._child)
            self._child = None


def serve() -> None:
    """The child: a line of JSON with a text and its language in, a line of JSON with its code out."""
    for line in sys.stdin.buffer:
        text, language = json.loads(line)
        code = read_code(text, language)
        sys.stdout.buffer.write(json.dumps([getattr(code, field.name) for field in fields(Code)]).encode() + b"\n")
        sys.stdout.buffer.flush()


def _decode(answer: bytes) -> Code:
    given = dict(zip((field.name for field in fields(Code)), json.loads(answer), strict=True))
    return Code(**given | {name: tuple(part(*row) for row in given[name]) for name, part in _PARTS.items()})
