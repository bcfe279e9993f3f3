"""A backup of what cannot be made again: what is published, reports, answers of models, and the Dagster instance."""

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex_pipelines import __version__
from cortex_pipelines.operations.archive import BackupError, packing
from cortex_pipelines.operations.instance import HELD, Instance
from cortex_pipelines.projects import find_projects
from cortex_pipelines.settings import Settings
from cortex_pipelines.store import SCHEMA_VERSION, ProjectStore, is_remote
from cortex_pipelines.store.staging import FOLDER as STAGING

# Where files of a store are held on to while they are read; `cortex prune` removes what a killed backup left.
PINNED = ".cortex-pinned-"
# Of the local state, what costs something to make again: answers of models.
STATE = ("lanes/answers.db",)
_SQLITE = b"SQLite format 3\0"
# Of a database these belong to a process that has it open.
_SIDE_FILES = ("-wal", "-shm", "-journal")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Backup:
    """A backup that was made: the generation of each project in it, and what is not in it and why."""

    path: Path
    projects: dict[str, int]
    files: int
    size: int
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The backup as a script reads it."""
        return {
            "path": str(self.path),
            "projects": self.projects,
            "files": self.files,
            "bytes": self.size,
            "notes": list(self.notes),
        }


def make_backup(target: Path, settings: Settings, progress: Progress = lambda done, of: None) -> Backup:
    """Write a backup to a file, or into a folder under a name with the time; `progress` hears bytes done, of how many.

    Runs go on meanwhile: what is in it of a project is one publication.
    """
    instance = Instance.of_environment()
    path = _target(target, settings, instance)
    notes: list[str] = []
    try:
        with _scratch(path.parent) as scratch, _pinned(settings, notes) as (stores, projects):
            sources = [*stores, *_reports(settings), *_copies(_state(settings), scratch / "state")]
            sources += _copies(_instance(instance, notes), scratch / "dagster")
            if not sources:
                raise BackupError(f"there is nothing to back up: {settings.store} and {settings.reports} are empty")
            size = sum(file.stat().st_size for _, file in sources)
            _require_room(path.parent, size)
            done = 0

            def on_bytes(count: int) -> None:
                nonlocal done
                done += count
                progress(done, size)

            with packing(path, on_bytes) as packed:
                for name, file in sources:
                    packed.add(name, file)
                packed.finish(
                    {
                        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                        "version": __version__,
                        "store_schema": SCHEMA_VERSION,
                        "projects": projects,
                        "notes": notes,
                    }
                )
    except (OSError, sqlite3.Error) as error:
        raise BackupError(_told(path, error)) from error
    return Backup(path, projects, len(sources), path.stat().st_size, tuple(notes))


def stored_projects(store: str) -> list[str]:
    """The projects that a store in a folder holds."""
    folder = Path(store)
    if is_remote(store) or not folder.is_dir():
        return []
    return list(find_projects(folder).projects)


def _target(target: Path, settings: Settings, instance: Instance) -> Path:
    path = target
    if target.is_dir():
        path = target / time.strftime("cortex-%Y%m%d-%H%M%S.tar", time.gmtime())
    folder = path.absolute().parent
    if not folder.is_dir():
        raise BackupError(f"{folder} is no folder: create it, or name another place for the backup")
    if path.exists():
        raise BackupError(f"{path} is there already: name another file, or a folder")
    parts = [Path(settings.store)] if not is_remote(settings.store) else []
    parts += [settings.reports, *([instance.home] if instance.home else [])]
    for part in parts:
        if folder.resolve().is_relative_to(part.resolve()):
            raise BackupError(f"{path} lies in {part}, which is backed up: name a place outside of it")
    return path


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for consistent copies of databases, beside the backup: the disk that must have the room."""
    place = Path(tempfile.mkdtemp(prefix=".cortex-backup-", dir=folder))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _pinned(settings: Settings, notes: list[str]) -> Iterator[tuple[list[tuple[str, Path]], dict[str, int]]]:
    """The files of each project's newest publication, held on to; and the generation of each.

    Versions are never changed, only removed, and only by a writer: so writers are kept out for as long as it takes to
    link the files elsewhere, not for as long as it takes to read them.
    """
    if is_remote(settings.store):
        notes.append(
            f"the store {settings.store} is not in it: switch on the bucket's versioning, or copy the bucket, "
            "while no run writes"
        )
        yield [], {}
        return
    store = Path(settings.store)
    found = stored_projects(settings.store)
    if not found:
        yield [], {}
        return
    pinned = Path(tempfile.mkdtemp(prefix=PINNED, dir=store))
    try:
        generations = {}
        for project in found:
            with ProjectStore(settings.store, project, settings.state).held() as published:
                if not published.generation:
                    continue
                generations[project] = published.generation
                _link_tree(store / project, pinned / project)
        files = [(f"store/{path.relative_to(pinned).as_posix()}", path) for path in _files(pinned)]
        yield files, generations
    finally:
        shutil.rmtree(pinned, ignore_errors=True)


def _link_tree(source: Path, target: Path) -> None:
    """The same files under another name; copies where the file system has no links."""
    for path in _files(source):
        relative = path.relative_to(source)
        # Batches that wait for commit can be made again, and come and go without the writer's lock.
        if relative.parts[0] == STAGING or path.name.startswith(".tmp") or path.suffix == ".tmp":
            continue
        linked = target / relative
        linked.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, linked)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            shutil.copy2(path, linked)


def _reports(settings: Settings) -> list[tuple[str, Path]]:
    return [
        (f"reports/{path.relative_to(settings.reports).as_posix()}", path)
        for path in _files(settings.reports)
        if path.suffix != ".tmp"
    ]


def _state(settings: Settings) -> list[tuple[str, Path]]:
    return [(f"state/{name}", settings.state / name) for name in STATE if (settings.state / name).is_file()]


def _instance(instance: Instance, notes: list[str]) -> list[tuple[str, Path]]:
    notes.extend(instance.notes)
    # One that cannot be written holds no more than its settings, and is part of an image.
    if instance.home is None or not os.access(instance.home, os.W_OK):
        return []
    parts = [instance.home / name for name in HELD]
    files = [path for part in parts for path in ([part] if part.is_file() else _files(part))]
    return [(f"dagster/{path.relative_to(instance.home).as_posix()}", path) for path in files]


def _copies(files: list[tuple[str, Path]], scratch: Path) -> list[tuple[str, Path]]:
    """The files, each SQLite database of them as a copy of one moment; what has gone since is left out."""
    copied = []
    for number, (name, path) in enumerate(files):
        if name.endswith(_SIDE_FILES):
            continue
        try:
            with path.open("rb") as file:
                database = file.read(len(_SQLITE)) == _SQLITE
        except FileNotFoundError:
            continue
        if database:
            scratch.mkdir(exist_ok=True)
            copy = scratch / str(number)
            with closing(sqlite3.connect(path, timeout=30.0)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
                # A copy in WAL mode would be two files.
                target.execute("PRAGMA journal_mode = DELETE")
            path = copy
        copied.append((name, path))
    return copied


def _files(folder: Path) -> list[Path]:
    """Every plain file below a folder, in order; symbolic links are not followed."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not (name.startswith(".cortex-") and root == str(folder)))
        found += [path for name in sorted(names) if (path := Path(root, name)).is_file() and not path.is_symlink()]
    return found


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise BackupError(
            f"the backup takes {size / 1e9:.2f} GB and {folder} has {free / 1e9:.2f} GB free: "
            "free some space, or name another disk"
        )


def _told(path: Path, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "full" in str(error):
        return f"the backup {path} was not made, the disk is full: free some space and make it again"
    reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return f"the backup {path} was not made ({reason}): mend that and make it again"
