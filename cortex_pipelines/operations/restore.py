"""Bringing a backup back: verified whole before anything is touched, unpacked beside what is there, then swapped."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex_pipelines.operations.archive import BackupError, Contents, read_manifest, sync, unpack
from cortex_pipelines.operations.backup import STATE, stored_projects
from cortex_pipelines.operations.instance import HELD, Instance
from cortex_pipelines.projects import project_name
from cortex_pipelines.settings import Settings
from cortex_pipelines.store import SCHEMA_VERSION, ProjectStore, is_remote

# Beside the project folders of a store, and likewise elsewhere: what is unpacked, and what was there before.
NEW = ".cortex-new-"
OLD = ".cortex-old-"
HELD_SECONDS = 60.0


@dataclass(frozen=True)
class Restored:
    """What was brought back, and what was not and why."""

    path: Path
    made: str
    version: str
    projects: dict[str, int]
    files: int
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as a script reads it."""
        return {
            "path": str(self.path),
            "made": self.made,
            "version": self.version,
            "projects": self.projects,
            "files": self.files,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Part:
    """A part of a backup and where it goes; `names` are the entries of that folder it stands for, None for all."""

    name: str
    folder: Path
    names: tuple[str, ...] | None = None


def restore_backup(
    path: Path,
    settings: Settings,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Restored:
    """Bring back a backup; without `force` only where neither a store, reports nor runs would be replaced.

    Where it fails, everything is as it was.
    """
    if not path.is_file():
        raise BackupError(f"there is no backup {path}")
    size = path.stat().st_size
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        progress(done, size)

    contents = read_manifest(path, on_bytes)
    _require_known(path, contents)
    parts, notes = _parts(contents, settings)
    if not force:
        _require_empty(parts)
    known = {part.name for part in parts}
    try:
        with ExitStack() as stack:
            for project in sorted({*stored_projects(settings.store), *contents.told["projects"]}):
                if not is_remote(settings.store):
                    # Not `held`: what is there may be broken, which is why it is replaced.
                    stack.enter_context(
                        ProjectStore(settings.store, project, settings.state, HELD_SECONDS).writer_kept_out()
                    )
            _forget_standing(settings)
            _swap(path, contents, parts)
    except OSError as error:
        raise BackupError(_told(path, error)) from error
    files = sum(name.partition("/")[0] in known for name in contents.members)
    told = contents.told
    return Restored(path, told["made"], told["version"], told["projects"], files, (*told["notes"], *notes))


def _require_known(path: Path, contents: Contents) -> None:
    """Names that this code gives; whoever can write a manifest can write any name into it."""
    if contents.told["store_schema"] > SCHEMA_VERSION:
        raise BackupError(
            f"the backup {path} holds a store of newer code (schema {contents.told['store_schema']}, this code knows "
            f"up to {SCHEMA_VERSION}): update cortex-pipelines, then restore it"
        )
    for name in contents.members:
        part, _, rest = name.partition("/")
        first = rest.partition("/")[0]
        known = (
            (part == "store" and first in contents.told["projects"] and "/" in rest)
            or (part == "reports" and not first.startswith("."))
            or (part == "state" and rest in STATE)
            or (part == "dagster" and first in HELD)
        )
        if not known:
            raise BackupError(f"the backup {path} holds {name[:200]!r}, which no backup does: nothing was restored")
    for project in contents.told["projects"]:
        project_name(project)


def _parts(contents: Contents, settings: Settings) -> tuple[list[_Part], list[str]]:
    """What is restored to where, and a note on what is not."""
    there = {name.partition("/")[0] for name in contents.members}
    parts, notes = [], []
    if "store" in there:
        if is_remote(settings.store):
            raise BackupError(
                f"the backup holds a store in a folder, and CORTEX_STORE is {settings.store}: set it to a folder"
            )
        parts.append(_Part("store", Path(settings.store)))
    if "reports" in there:
        parts.append(_Part("reports", settings.reports))
    if "state" in there:
        # The log that SQLite keeps beside a database would be taken for one of the new database.
        for place in map(Path, STATE):
            names = tuple(f"{place.name}{end}" for end in ("", "-wal", "-shm"))
            parts.append(_Part("state", settings.state / place.parent, names))
    if "dagster" in there:
        home = Instance.of_environment().named
        if home is not None and (not home.exists() or os.access(home, os.W_OK)):
            parts.append(_Part("dagster", home, HELD))
        elif home is not None:
            notes.append(f"the Dagster instance in it was not restored: {home} cannot be written")
        else:
            notes.append(
                "the Dagster instance in it was not restored: set DAGSTER_HOME to a folder and restore again with "
                "--force, if you want its runs"
            )
    return parts, notes


def _require_empty(parts: list[_Part]) -> None:
    for part in parts:
        names = part.names if part.name != "dagster" else ("history", "schedules")
        if part.name != "state" and (found := _entries(_Part(part.name, part.folder, names))):
            raise BackupError(
                f"{part.folder} is not empty ({found[0]}): with --force it is replaced, otherwise restore elsewhere"
            )


def _entries(part: _Part) -> list[str]:
    """What is there now of what the part stands for."""
    if not part.folder.is_dir():
        return []
    found = sorted(entry.name for entry in part.folder.iterdir())
    if part.names is None:
        return [name for name in found if not name.startswith(".")]
    return [name for name in found if name in part.names]


def _swap(path: Path, contents: Contents, parts: list[_Part]) -> None:
    """Unpack everything, then move what was there aside and the new in its place; undone where any of it fails."""
    made: list[Path] = []
    moved: list[tuple[Path, Path]] = []
    try:
        places: dict[str, tuple[Path, Path]] = {}
        for part in parts:
            part.folder.mkdir(parents=True, exist_ok=True)
            new, old = (Path(tempfile.mkdtemp(prefix=prefix, dir=part.folder)) for prefix in (NEW, OLD))
            made += [new, old]
            places[part.name] = new, old

        def place(name: str) -> Path | None:
            part, _, rest = name.partition("/")
            if part not in places:
                return None
            # Of the state only single files are in a backup, each in the folder that it is swapped in.
            return places[part][0] / (Path(rest).name if part == "state" else rest)

        unpack(path, contents, place)
        for part in parts:
            new, old = places[part.name]
            for name in _entries(part):
                _move(part.folder / name, old / name, moved)
            for entry in sorted(new.iterdir()):
                _move(entry, part.folder / entry.name, moved)
            sync(part.folder)
    except BaseException:
        for source, target in reversed(moved):
            target.rename(source)
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
    for part in parts:
        # Of a restore that was killed: what it moved aside is replaced by now.
        for left in part.folder.glob(f"{OLD}*"):
            shutil.rmtree(left, ignore_errors=True)


def _move(source: Path, target: Path, moved: list[tuple[Path, Path]]) -> None:
    source.rename(target)
    moved.append((source, target))


def _forget_standing(settings: Settings) -> None:
    """What the last run told was of another store, whose versions may have had the same numbers."""
    with suppress(OSError):
        for told in settings.state.glob("*/standing.json"):
            told.unlink(missing_ok=True)


def _told(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path} was not restored, the disk is full: free some space and restore again, all is as it was"
    reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{path} was not restored ({reason}): mend that and restore again, all is as it was"
