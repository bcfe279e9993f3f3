"""What a project is: a folder of the inbox, whose name is its partition key."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cortex_pipelines.errors import CortexError

# A name is a folder, a partition key, a database name and part of an S3 key: this is what all four take.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ProjectNameError(CortexError, ValueError):
    """A name that cannot be a project's."""


@dataclass(frozen=True)
class Inbox:
    """The projects found in an inbox, and the folders that cannot be one, each with its reason."""

    projects: tuple[str, ...]
    refused: dict[str, str]


def project_name(name: str) -> str:
    """The name, if it is a safe one; `ProjectNameError` says why not."""
    if reason := _objection(name):
        raise ProjectNameError(f"project name {name!r} {reason}")
    return name


def project_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names in order, each safe, none given twice or differing from another only in case."""
    checked = tuple(dict.fromkeys(project_name(name) for name in names))
    if twins := _case_twins(checked):
        raise ProjectNameError(f"project names {', '.join(twins)} differ only in case: rename one of them")
    return checked


def find_projects(inbox: Path) -> Inbox:
    """Every folder of the inbox that is a project, by name.

    Raises `CortexError` when the inbox is missing, is no folder or cannot be read.
    """
    try:
        if not inbox.is_dir():
            raise CortexError(f"the inbox {inbox} is not a folder: create it, or set CORTEX_INBOX to one")
        folders = sorted(entry for entry in inbox.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise CortexError(f"the inbox {inbox} cannot be read: {error.strerror}") from None
    refused = {folder.name: reason for folder in folders if (reason := _objection(folder.name))}
    refused |= {
        folder.name: "is a symbolic link: projects are real folders" for folder in folders if folder.is_symlink()
    }
    safe = [folder.name for folder in folders if folder.name not in refused]
    refused |= dict.fromkeys(_case_twins(safe), "differs only in case from another project: rename one of them")
    return Inbox(tuple(name for name in safe if name not in refused), refused)


def chosen_projects(inbox: Path, named: Iterable[str]) -> Inbox:
    """The projects a command is about: those named, which have to be there, else those of the inbox, at least one."""
    if names := project_names(named):
        for name in names:
            if not (inbox / name).is_dir():
                raise CortexError(f"there is no project {name}: {inbox / name} is not a folder")
        return Inbox(names, {})
    found = find_projects(inbox)
    if not found.projects:
        raise CortexError(f"the inbox {inbox} is empty: put a folder into it, which becomes a project")
    return found


def _objection(name: str) -> str | None:
    if ".." in name:
        return "holds '..': use letters, digits, '.', '_' and '-'"
    if not _NAME.fullmatch(name):
        return (
            "is not a plain name: use letters, digits, '.', '_' and '-', at most 100, starting with a letter or digit"
        )
    return None


def _case_twins(names: Iterable[str]) -> list[str]:
    listed = list(names)
    counts = Counter(name.casefold() for name in listed)
    return [name for name in listed if counts[name.casefold()] > 1]
