"""What the last scan of a project saw, in SQLite: what is unchanged is not read again."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cortex_pipelines.errors import CortexError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scanned (
    path TEXT PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS glanced (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, since REAL NOT NULL
) WITHOUT ROWID;
"""


class ManifestError(CortexError):
    """The manifest cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that landed: `kind` is `file`, `repository`, `bundle` or `archive`, which is of a source tree.

    Size in bytes; digest of the content.
    The digest of a repository is its head: the branch and the commit.
    """

    path: str
    kind: str
    size: int
    mtime_ns: int
    inode: int
    digest: str


class Manifest:
    """The scan manifest of one project; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30.0, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ManifestError(
                f"the scan manifest {path} cannot be opened ({error}): make its folder writable, or set CORTEX_STATE"
            ) from error

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def scanned(self) -> dict[str, Source]:
        """What the last scan saw, by path."""
        rows = self._connection.execute("SELECT path, kind, size, mtime_ns, inode, digest FROM scanned")
        return {row[0]: Source(*row) for row in rows}

    def replace_scanned(self, changed: Iterable[Source], gone: Iterable[str]) -> None:
        """Let the manifest be what a scan saw."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO scanned VALUES (?, ?, ?, ?, ?, ?)",
                [(s.path, s.kind, s.size, s.mtime_ns, s.inode, s.digest) for s in changed],
            )
            self._connection.executemany("DELETE FROM scanned WHERE path = ?", [(path,) for path in gone])

    def glanced(self) -> dict[str, tuple[str, float]]:
        """The stamp of each path at the last glance, and since when (seconds of the epoch) it is so."""
        return {path: (stamp, since) for path, stamp, since in self._connection.execute("SELECT * FROM glanced")}

    def growing(self, since: float) -> set[str]:
        """The paths whose last change was seen after a time, in seconds of the epoch."""
        return {path for (path,) in self._connection.execute("SELECT path FROM glanced WHERE since > ?", (since,))}

    def replace_glanced(self, changed: Mapping[str, tuple[str, float]], gone: Iterable[str]) -> None:
        """Remember a glance."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO glanced VALUES (?, ?, ?)",
                [(path, stamp, since) for path, (stamp, since) in changed.items()],
            )
            self._connection.executemany("DELETE FROM glanced WHERE path = ?", [(path,) for path in gone])
