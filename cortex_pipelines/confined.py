"""Programs that read hostile input, run within limits: none of them can take the machine, or us, down."""

import os
import select
import signal
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


def start(
    command: Sequence[str], *, talking: bool = False, memory: int = MEMORY_BYTES, **environment: str
) -> "Popen[bytes]":
    """Start a program with a pipe from its output, and one to its input when `talking`.

    It may allocate `memory` bytes, leaves no core dump, and knows nothing of this process's environment: neither
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
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    return process


def stop(process: "Popen[bytes]") -> None:
    """End a program and what it started, whatever they do, and let go of its pipes."""
    if process.poll() is None:
        # Until it is waited for, no other group has its number.
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


_LENGTH = struct.Struct(">Q")
_BLOCK = 2**20


class Worker:
    """A child process that answers one question at a time, replaced when a question ends it. A context manager.

    `module` has a function `serve()`, which calls `answer_questions`, or `hear` and `say` where an answer has many
    parts. A part takes at most `seconds` and `most_bytes`.
    """

    def __init__(self, module: str, seconds: float, most_bytes: int, memory: int = MEMORY_BYTES) -> None:
        self._module = module
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._memory = memory
        self._child: Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, question: bytes) -> bytes:
        """The child's answer. Raises `TimeoutError` when it takes too long, `OSError` when it ends or says too much."""
        self.say(question)
        return self.hear()

    def say(self, message: bytes) -> None:
        """Tell the child something. Raises `OSError` when it ended."""
        try:
            pipe = self._running().stdin
            assert pipe is not None
            pipe.write(_LENGTH.pack(len(message)))
            pipe.write(message)
            pipe.flush()
        except BaseException:
            self._end()
            raise

    def hear(self) -> bytes:
        """What the child says next. Raises as `ask` does."""
        try:
            deadline = time.monotonic() + self._seconds
            (size,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
            if size > self._most_bytes:
                raise ConnectionError("the answer is too long")
            return self._read(size, deadline)
        except BaseException:
            self._end()
            raise

    def _running(self) -> "Popen[bytes]":
        if self._child is None:
            root = str(Path(__file__).parents[1])
            command = [sys.executable, "-P", "-c", f"from {self._module} import serve; serve()"]
            path = os.pathsep.join([root, *sys.path])
            self._child = start(command, talking=True, memory=self._memory, PYTHONPATH=path)
        return self._child

    def _read(self, size: int, deadline: float) -> bytes:
        pipe = self._running().stdout
        assert pipe is not None
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        blocks = []
        while size:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1_000):
                raise TimeoutError(f"no answer within {self._seconds:.0f} s")
            block = os.read(pipe.fileno(), min(size, _BLOCK))
            if not block:
                raise ConnectionError("the child ended")
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)

    def _end(self) -> None:
        if self._child is not None:
            stop(self._child)
            self._child = None


def answer_questions(answer: Callable[[bytes], bytes]) -> None:
    """The child's side of a `Worker`: answer each question of the standard input until it ends."""
    # What a parser prints must not get among the answers.
    sys.stdout = sys.stderr
    while (question := hear()) is not None:
        say(answer(question))


def hear() -> bytes | None:
    """The child's side of `Worker.say`: the next message, None when there will be none."""
    head = sys.stdin.buffer.read(_LENGTH.size)
    return sys.stdin.buffer.read(*_LENGTH.unpack(head)) if head else None


def say(message: bytes) -> None:
    """The child's side of `Worker.hear`."""
    assert sys.__stdout__ is not None
    said = sys.__stdout__.buffer
    said.write(_LENGTH.pack(len(message)))
    said.write(message)
    said.flush()


# A parser reads no other file than the one it is given; modules and pipes are a few more.
OPEN_FILES = 64
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def shut_in() -> None:
    """The child's side: from now on no file is written, few are open, and there is no network where Linux allows it."""
    if sys.platform != "linux":
        return
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    unshare = ctypes.CDLL(None).unshare
    # In a namespace of its own there is nothing to connect to. Containers often forbid it: then the network stays.
    if unshare(CLONE_NEWNET):
        unshare(CLONE_NEWUSER | CLONE_NEWNET)


def allow(cpu_seconds: float, memory: int) -> None:
    """The child's side: end this process when it uses more CPU from now on, in all its threads; allocate no more."""
    if sys.platform == "linux":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime + cpu_seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
