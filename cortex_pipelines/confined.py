"""Programs that read hostile input, run within limits: none of them can take the machine, or us, down."""

import os
import select
import struct
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from types import TracebackType
from typing import Self

# Syntax trees take some hundred bytes for each byte read, and a file has at most 1 MB; a hostile one needs
# gigabytes (10 KB of `a<a<a<…` as Java take tree-sitter 300 MB, and 100 KB more than any machine has).
MEMORY_BYTES = 2 * 2**30


def start(command: Sequence[str], *, talking: bool = False, **environment: str) -> "Popen[bytes]":
    """Start a program with a pipe from its output, and one to its input when `talking`.

    It may allocate `MEMORY_BYTES`, leaves no core dump, and knows nothing of this process's environment: neither
    configuration nor secrets.
    """
    process = Popen(
        list(command),
        stdin=PIPE if talking else DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **environment},
        process_group=0,
    )
    if sys.platform == "linux":
        import resource

        # It may already have ended.
        with suppress(OSError):
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    return process


def stop(process: "Popen[bytes]") -> None:
    """End a program, whatever it does, and let go of its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


_LENGTH = struct.Struct(">Q")
_BLOCK = 2**20


class Worker:
    """A child process that answers one question at a time, replaced when a question ends it. A context manager.

    `module` has a function `serve()`, which calls `answer_questions`. An answer takes at most `seconds`
    and `most_bytes`.
    """

    def __init__(self, module: str, seconds: float, most_bytes: int) -> None:
        self._module = module
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._child: Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, question: bytes) -> bytes:
        """The child's answer. Raises `TimeoutError` when it takes too long, `OSError` when it ends or says too much."""
        try:
            return self._ask(question)
        except BaseException:
            self._end()
            raise

    def _ask(self, question: bytes) -> bytes:
        if self._child is None:
            root = str(Path(__file__).parents[1])
            command = [sys.executable, "-P", "-c", f"from {self._module} import serve; serve()"]
            self._child = start(command, talking=True, PYTHONPATH=os.pathsep.join([root, *sys.path]))
        asking, answering = self._child.stdin, self._child.stdout
        assert asking is not None and answering is not None
        deadline = time.monotonic() + self._seconds
        asking.write(_LENGTH.pack(len(question)) + question)
        asking.flush()
        poll = select.poll()
        poll.register(answering, select.POLLIN)
        answer = bytearray()
        size = None
        while size is None or len(answer) < size:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1_000):
                raise TimeoutError(f"no answer within {self._seconds:.0f} s")
            block = os.read(answering.fileno(), _BLOCK)
            if not block:
                raise ConnectionError("the child ended")
            answer += block
            if size is None and len(answer) >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(answer)
                del answer[: _LENGTH.size]
                if size > self._most_bytes:
                    raise ConnectionError("the answer is too long")
        return bytes(answer)

    def _end(self) -> None:
        if self._child is not None:
            stop(self._child)
            self._child = None


def answer_questions(answer: Callable[[bytes], bytes]) -> None:
    """The child's side of a `Worker`: answer each question of the standard input until it ends."""
    asked, said = sys.stdin.buffer, sys.stdout.buffer
    # What a parser prints must not get among the answers.
    sys.stdout = sys.stderr
    while head := asked.read(_LENGTH.size):
        result = answer(asked.read(*_LENGTH.unpack(head)))
        said.write(_LENGTH.pack(len(result)) + result)
        said.flush()
