"""One writer per project: a lock of the operating system locally, a lease in the database on S3."""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cortex_pipelines.store.errors import StoreBusy, told_of

log = logging.getLogger(__name__)


@contextmanager
def file_lock(path: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Hold the lock at `path`, which the system frees when the process dies; yields what a lease yields.

    Waits up to `seconds` for another holder, then raises `StoreBusy` with its process and since when it writes.
    """
    from filelock import FileLock, Timeout

    with told_of(str(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("waiting for another run: %s", _holder(path))
            try:
                lock.acquire(timeout=seconds, poll_interval=0.2)
            except Timeout:
                raise StoreBusy(
                    f"another run is writing this project ({_holder(path)}): wait for it to end, or stop it"
                ) from None
    try:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        _note_path(path).write_text(json.dumps(note))
        yield lambda: None  # as long as this process lives, the lock is ours
    finally:
        lock.release()


def _note_path(path: Path) -> Path:
    return path.with_suffix(".holder")


def _holder(path: Path) -> str:
    try:
        note = json.loads(_note_path(path).read_text())
        return f"process {note['pid']} on {note['host']}, since {note['since']}"
    except (OSError, ValueError, KeyError):
        return "its holder left no name"
