"""A glance at a project's folder: what differs from what the last run saw, and whether it still grows."""

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cortex_pipelines.ingest.changes import Changes
from cortex_pipelines.ingest.manifest import Manifest
from cortex_pipelines.ingest.scan import QUIET_SECONDS, stamps
from cortex_pipelines.projects import find_projects

# The stamp of a path that is no longer there.
GONE = "gone"

# Every project is glanced at so often, whatever is told of changes: a hint may be lost.
REGULAR_SECONDS = 60.0
# Where nothing is told of changes.
POLL_SECONDS = 2.0
# Between two glances at a folder that changes all the time; at a large one they take at most a quarter of a processor.
PAUSE_SECONDS = 0.5
RESTING_SHARE = 3


@dataclass(frozen=True)
class Glance:
    """What is quiet and differs from what the last run saw: paths by kind, and the size of the largest file, in bytes.

    `growing` are paths that were still being written, which a later glance will look at again; in `rests_in` seconds
    the first of them may have come to rest.
    """

    files: tuple[str, ...]
    repositories: tuple[str, ...]
    largest: int
    growing: tuple[str, ...]
    fingerprint: str
    rests_in: float = math.inf

    @property
    def quiet(self) -> bool:
        """Whether there is something for a run."""
        return bool(self.files or self.repositories)


def glance(project_folder: Path, manifest: Manifest, now: float) -> Glance:
    """Compare a folder with what the last run saw; `now` is in seconds since the epoch.

    What came, changed or went counts once it has looked the same for `QUIET_SECONDS`. Only that is remembered, in the
    manifest, so that nothing is lost between two glances, whoever takes them.
    """
    seen = {found.path: found for found in stamps(project_folder)}
    scanned, before = manifest.scanned(), manifest.glanced()
    differing = {path: found.stamp for path, found in seen.items() if not found.same(scanned.get(path))}
    differing |= dict.fromkeys(scanned.keys() - seen.keys(), GONE)
    since = {
        # A clock that was set back makes nothing wait for the time it lost.
        path: min(before[path][1], now) if path in before and before[path][0] == stamp else now
        for path, stamp in differing.items()
    }
    remembered = {path: (stamp, since[path]) for path, stamp in differing.items()}
    changed = {path: row for path, row in remembered.items() if before.get(path) != row}
    forgotten = before.keys() - remembered.keys()
    if changed or forgotten:
        manifest.replace_glanced(changed, forgotten)
    quiet = sorted(path for path in differing if now - since[path] >= QUIET_SECONDS)
    kinds = {path: seen[path].kind if path in seen else scanned[path].kind for path in quiet}
    growing = sorted(differing.keys() - set(quiet))
    digest = hashlib.blake2b(digest_size=16)
    for path in quiet:
        digest.update(f"{path}\0{differing[path]}\0".encode("utf-8", "surrogateescape"))
    return Glance(
        tuple(path for path in quiet if kinds[path] != "repository"),
        tuple(path for path in quiet if kinds[path] == "repository"),
        max((seen[path].size for path in quiet if path in seen and kinds[path] != "repository"), default=0),
        tuple(growing),
        digest.hexdigest(),
        min((since[path] + QUIET_SECONDS - now for path in growing), default=math.inf),
    )


class Watch:
    """Glances at the projects of an inbox, each when there is reason to; use it in a `with`.

    There is reason where the file system tells of a change, where something may have come to rest, and once a minute.
    With `at_once=False` every project is glanced at once, and nothing is watched. `projects` are those named, or all.
    """

    def __init__(self, inbox: Path, state: Path, projects: Sequence[str] = (), at_once: bool = True) -> None:
        self._inbox, self._state, self._wanted = inbox, state, frozenset(projects)
        self._changes = Changes(inbox, projects) if at_once else None
        self._due: dict[str, float] = {}
        self._free: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._changes is not None:
            self._changes.__exit__(kind, error, at)

    @property
    def fault(self) -> str:
        """Why nothing is noticed at once, in one line; empty where it is."""
        return self._changes.fault if self._changes is not None else ""

    def projects(self) -> tuple[str, ...]:
        """The projects that there are now."""
        return tuple(name for name in find_projects(self._inbox).projects if not self._wanted or name in self._wanted)

    def look(self, seconds: float) -> dict[str, Glance]:
        """What is seen of the projects there is reason to glance at, waiting at most so long for one."""
        deadline = time.monotonic() + seconds
        while True:
            projects, now = self.projects(), time.monotonic()
            if due := [name for name in projects if self._due.get(name, now) <= now]:
                return {name: self._glance(name) for name in due}
            if self._changes is None or now >= deadline:
                return {}
            soonest = min((self._due[name] for name in projects), default=now + self._regular)
            for name in self._changes.wait(min(soonest, deadline) - now) & self._due.keys():
                self._due[name] = min(self._due[name], self._free[name])

    @property
    def _regular(self) -> float:
        return POLL_SECONDS if self.fault else REGULAR_SECONDS

    def _glance(self, project: str) -> Glance:
        began = time.thread_time()
        with Manifest(self._state / project / "manifest.db") as manifest:
            seen = glance(self._inbox / project, manifest, time.time())
        took, now = time.thread_time() - began, time.monotonic()
        self._free[project] = now + max(PAUSE_SECONDS, took * RESTING_SHARE)
        self._due[project] = max(now + min(self._regular, seen.rests_in), self._free[project])
        return seen
