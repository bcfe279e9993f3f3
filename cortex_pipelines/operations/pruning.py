"""Removing what is no longer needed of a project's store and state, and compacting what stays."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cortex_pipelines.operations.backup import PINNED, stored_projects
from cortex_pipelines.operations.restore import NEW
from cortex_pipelines.settings import Settings
from cortex_pipelines.store import ProjectStore, is_remote
from cortex_pipelines.store.staging import FOLDER as STAGING

# A temporary file that is older belongs to no process that still writes it.
LEFT_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Pruned:
    """What was done to one project: the tables that were compacted, the leftovers that went, and what that freed."""

    project: str
    compacted: tuple[str, ...]
    leftovers: int
    freed_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The same as a script reads it."""
        return asdict(self)


def prunable_projects(settings: Settings) -> list[str]:
    """The projects of the store; of one on S3, which cannot be listed cheaply, those of the inbox."""
    from cortex_pipelines.projects import find_projects

    if is_remote(settings.store):
        return list(settings.projects or find_projects(settings.inbox).projects)
    return stored_projects(settings.store)


def prune_project(project: str, settings: Settings) -> Pruned:
    """Undo what killed writers left, prune old versions, compact every table. What is published reads the same."""
    before = _size(settings.store, project)
    store = ProjectStore(settings.store, project, settings.state)
    leftovers = _remove_left(project, settings)
    # Without a publication there is nothing to keep, and the next run begins anew by itself.
    compacted: list[str] = []
    if store.snapshot().generation:
        with store.publishing() as writer:
            if compacted := writer.compact():
                writer.publish()
    return Pruned(project, tuple(compacted), leftovers, max(before - _size(settings.store, project), 0))


def prune_leftovers(settings: Settings) -> int:
    """Remove what killed backups and restores left beside the projects; how many there were."""
    roots = [settings.reports, settings.state, settings.state / "lanes"]
    roots += [] if is_remote(settings.store) else [Path(settings.store)]
    # What a killed restore moved aside may be all there is: that stays, and `cortex doctor` tells of it.
    left = [path for root in roots for start in (PINNED, NEW) for path in root.glob(f"{start}*") if _is_old(path)]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)


def _remove_left(project: str, settings: Settings) -> int:
    left = [path for path in _temporary(project, settings) if _is_old(path)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def _temporary(project: str, settings: Settings) -> Iterator[Path]:
    """Files under the names that are given until a file is whole."""
    yield from (settings.state / project).glob("*.tmp")
    yield from (settings.reports / project).glob("*.tmp")
    if not is_remote(settings.store):
        yield from Path(settings.store, project).glob("*.tmp")
        yield from Path(settings.store, project, STAGING).glob("*/*.tmp")


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > LEFT_SECONDS
    except OSError:
        return False


def _size(store: str, project: str) -> int:
    if is_remote(store):
        return 0
    total = 0
    for root, _, names in os.walk(Path(store, project)):
        for name in names:
            path = Path(root, name)
            total += path.lstat().st_size if path.exists() else 0
    return total
