"""Answers that were given before: exact, by the request and the identity of the model, in one bounded file."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cortex_pipelines.lanes.replies import Reply
from cortex_pipelines.names import CacheMode

# When the file is full, so much of it goes: the answers that were asked for longest ago.
_CLEARED_SHARE = 0.1
_CLEAR = "DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY used LIMIT ?)"
_VERSION = 1


class Cache:
    """Answers by key in a file of about `size` bytes. One that cannot be used holds nothing and says nothing."""

    def __init__(self, path: Path, mode: CacheMode, size: int, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._mode = mode
        self._size = size
        self._clock = clock
        self._database: sqlite3.Connection | None = None
        self._failed = mode is CacheMode.OFF

    @property
    def used(self) -> bool:
        """Whether answers are read or kept at all."""
        return not self._failed

    @property
    def shares(self) -> bool:
        """Whether an answer that one process keeps is read by another."""
        return not self._failed and self._mode is CacheMode.WRITE

    def get(self, key: str) -> Reply | None:
        """The answer to the same request by the same model; None where there is none, or none is wanted."""
        if self._mode not in (CacheMode.READ, CacheMode.WRITE):
            return None
        with suppress(sqlite3.Error, ValueError, TypeError):
            if database := self._open():
                found = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
                if found:
                    # Another process may be writing: then this use is not counted.
                    with suppress(sqlite3.Error):
                        database.execute("UPDATE answers SET used = ? WHERE key = ?", (self._clock(), key))
                    return Reply(**json.loads(found[0]))
        return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer, where answers are kept."""
        if self._mode not in (CacheMode.WRITE, CacheMode.REFRESH):
            return
        answer = json.dumps(asdict(reply))
        if len(answer) > self._size * _CLEARED_SHARE:
            return
        with suppress(sqlite3.Error):
            if database := self._open():
                database.execute("BEGIN IMMEDIATE")
                # Leaving commits, or undoes: a transaction that stayed open would shut out every other process.
                with database:
                    self._make_room(database)
                    database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, answer, self._clock()))

    def _make_room(self, database: sqlite3.Connection) -> None:
        pages, free, size = (
            database.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self._size:
            (held,) = database.execute("SELECT count(*) FROM answers").fetchone()
            cleared = max(1, int(held * _CLEARED_SHARE))
            database.execute(_CLEAR, (cleared,))

    def _open(self) -> sqlite3.Connection | None:
        if self._database is None and not self._failed:
            self._failed = True
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                database = sqlite3.connect(self._path, timeout=0.05, isolation_level=None, check_same_thread=False)
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = OFF")
                database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT, used REAL)")
                database.execute("CREATE INDEX IF NOT EXISTS by_use ON answers (used)")
                self._database = database
                self._failed = False
        return self._database


def key_of(request: Mapping[str, Any], identity: str, prompt_version: str) -> str:
    """What names an answer: everything that is sent, the model that it is sent to, the version of the prompt."""
    canonical = json.dumps([_VERSION, identity, prompt_version, request], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
