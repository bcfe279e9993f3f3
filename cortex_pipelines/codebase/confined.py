"""Programs that read hostile code, run within limits: none of them can take the machine, or us, down."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from subprocess import DEVNULL, PIPE, Popen

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
