"""What the file system tells of changes in an inbox, as they happen: only a hint where to look, and never the truth."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cortex_pipelines.ingest.scan import MOST_DEPTH, is_left_out, is_repository
from cortex_pipelines.projects import find_projects

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

# Changes that follow each other so closely are told of together, but none later than the longer time, in ms.
STEP_MS = 50
MOST_MS = 1_000
# A copied tree brings folder after folder: to list them all again takes at most a tenth of a processor.
RESTING_SHARE = 9
# After a fault it is tried again so often; what is listed a moment ago may be gone when it is watched.
RETRY_SECONDS = 60.0
ATTEMPTS = 3

# A machine is told of its own changes only, if of any, by a file system that others write to.
REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "virtiofs",
    "vboxsf",
    "prl_fs",
    "ceph",
    "afs",
    "gfs",
    "lustre",
    "fuse",
    "fakeowner",
)
MOUNTS = Path("/proc/self/mountinfo")

LOOKED_THROUGH = "its folders are looked through every few seconds"

FILES, GIT = "files", "git"
# Of a repository only what its head is read from; git writes a new state under a name ending so, and renames it.
HEADS = ("HEAD", "packed-refs", "tables.list", "refs", "reftable")
LOCK = ".lock"


class Changes:
    """The folders of an inbox, watched by the kernel; use it in a `with`.

    Each folder is watched by itself: a recursive watch would follow links, and take the objects of repositories too.
    `fault` is one line on why nothing is told, empty where it is.
    """

    def __init__(self, inbox: Path, projects: Sequence[str] = ()) -> None:
        self._inbox = inbox.absolute()
        self._wanted = frozenset(projects)
        self._folders: dict[str, str] = {}
        self._events: RustNotify | None = None
        self._stale = True
        self._list_at = 0.0
        self.fault = ""
        self._list()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._events is not None:
            self._events.close()

    def wait(self, seconds: float) -> set[str]:
        """The projects where something may have changed, as soon as it did; none when nothing did for so long."""
        deadline = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if self._stale and now >= self._list_at:
                return self._list()
            left = min(deadline, self._list_at if self._stale else deadline) - now
            if left <= 0:
                return set()
            if self._events is None:
                time.sleep(left)
                continue
            told = _told(self._events, left)
            if told is None:
                self._stale = True
                return {self._project(folder) for folder in self._folders} - {""}
            if paths := [path for path in told if self._counts(path)]:
                self._stale = self._stale or any(path in self._folders or Path(path).is_dir() for path in paths)
                return {self._project(path) for path in paths}

    def _list(self) -> set[str]:
        """Watch the folders there are now; the projects to look at once more, since something may be lost there."""
        began = time.thread_time()
        before, old = self._folders, self._events
        changed: set[str] = set()
        self._events, self._folders, self.fault = None, {}, _remote(self._inbox)
        for _ in range(ATTEMPTS if not self.fault else 0):
            self._folders = dict(self._found())
            try:
                self._events = _watched(list(self._folders))
                self.fault = ""
                break
            except FileNotFoundError:
                self.fault = f"folders come and go too fast to be watched: {LOOKED_THROUGH}"
            except (OSError, RuntimeError) as error:
                self.fault = _explained(error, len(self._folders))
                if old is None:
                    break
                # The new watches may fit where the old ones are not; what happens in between is not told of.
                old.close()
                old, changed = None, set(before)
        if old is not None:
            # What happened until the new ones were there.
            told = _told(old, 0)
            changed |= set(before if told is None else told)
            old.close()
        took = time.thread_time() - began
        self._stale = self._events is None
        self._list_at = time.monotonic() + (RETRY_SECONDS if self._stale else took * RESTING_SHARE)
        changed |= {folder for folder, _ in before.items() ^ self._folders.items()}
        return {self._project(path) for path in changed} - {""}

    def _found(self) -> Iterator[tuple[str, str]]:
        """Each folder that a scan reads names in, and what kind of names."""
        yield str(self._inbox), FILES
        stack = [
            (self._inbox / name, 0)
            for name in find_projects(self._inbox).projects
            if not self._wanted or name in self._wanted
        ]
        while stack:
            folder, depth = stack.pop()
            if is_repository(folder):
                yield from ((inside, GIT) for inside in _git_folders(folder))
                continue
            with suppress(OSError):
                inside = [
                    Path(entry)
                    for entry in os.scandir(folder)
                    if entry.is_dir(follow_symlinks=False) and not is_left_out(entry.name) and entry.name.isprintable()
                ]
                yield str(folder), FILES
                stack += [(path, depth + 1) for path in inside] if depth + 1 < MOST_DEPTH else []

    def _counts(self, path: str) -> bool:
        """Whether a path that was told of can be of what a scan takes."""
        folder, _, name = path.rpartition("/")
        if self._folders.get(folder) == GIT:
            return (name in HEADS or "/refs" in folder) and not name.endswith(LOCK)
        # A folder becomes a repository by its `.git`.
        return name == ".git" or not is_left_out(name)

    def _project(self, path: str) -> str:
        return path.removeprefix(str(self._inbox)).lstrip("/").partition("/")[0]


def _watched(folders: list[str]) -> "RustNotify":
    from watchfiles._rust_notify import RustNotify

    # To ignore what is not permitted would ignore every other error of the kernel too.
    return RustNotify(
        folders, debug=False, force_polling=False, poll_delay_ms=0, recursive=False, ignore_permission_denied=False
    )


def _told(events: "RustNotify", seconds: float) -> list[str] | None:
    """The paths that are told of within some seconds; None where some were lost."""
    from watchfiles._rust_notify import WatchfilesRustInternalError

    try:
        told = events.watch(MOST_MS, STEP_MS, max(1, int(seconds * 1_000)), None)
    except WatchfilesRustInternalError:
        # A name among them is no UTF-8.
        return None
    if told == "signal":
        raise KeyboardInterrupt
    return [path for _, path in told] if isinstance(told, set) else []


def _git_folders(folder: Path) -> Iterator[str]:
    git = folder / ".git" if (folder / ".git").is_dir() else folder
    yield str(git)
    for name in ("refs", "reftable"):
        yield from (inside for inside, _, _ in os.walk(git / name))


def _explained(error: Exception, folders: int) -> str:
    what = str(error)
    if "limit reached" in what or "os error 28" in what:
        return (
            f"the inbox has {folders} folders, more than this user may watch: raise fs.inotify.max_user_watches with "
            f"sysctl; until then {LOOKED_THROUGH}"
        )
    if "os error 24" in what:
        return (
            "this user has too many programs that watch: raise fs.inotify.max_user_instances with sysctl; until then "
            f"{LOOKED_THROUGH}"
        )
    return f"the kernel does not tell of changes ({what}): {LOOKED_THROUGH}"


def _remote(inbox: Path) -> str:
    """Why a machine is not told of what others write into an inbox; empty where the disk is its own."""
    try:
        lines = MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    real = inbox.resolve()
    holder, inside = (-1, ""), []
    for line in lines:
        place, _, rest = line.partition(" - ")
        mount = Path(place.split(" ")[4].replace("\\040", " "))
        kind = rest.split(" ")[0]
        if real.is_relative_to(mount):
            # Of two mounts over each other the later one is seen.
            holder = max(holder, (len(mount.parts), kind), key=lambda known: known[0])
        elif mount.is_relative_to(real):
            inside.append(kind)
    for kind in (holder[1], *inside):
        if kind.startswith(REMOTE):
            return f"the inbox is on {kind}, which does not tell of what other machines write: {LOOKED_THROUGH}"
    return ""
