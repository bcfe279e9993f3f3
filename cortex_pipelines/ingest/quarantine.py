"""The quarantine as people work with it: by reason, with what to do about each, and tried again."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cortex_pipelines.store import ProjectStore

FIRST = 5

# What a reason says, and what to do about it; docs/inputs.md says the same, in more words. The first that fits counts.
HINTS: tuple[tuple[str, str], ...] = (
    ("is empty", "nothing, or put the content there"),
    ("has no text, only images:", "install `tesseract-ocr`, then `cortex retry`"),
    ("install tesseract", "install `tesseract-ocr`, then `cortex retry`"),
    ("only images in which OCR finds none", "a better scan, or nothing"),
    ("has no text", "nothing, or put the content there"),
    ("is encrypted", "save it without a password"),
    ("is a broken", "export it again"),
    ("is broken", "export it again"),
    ("is of Word before 2007", "save it as DOCX or PPTX"),
    ("is of PowerPoint before 2007", "save it as DOCX or PPTX"),
    ("is Strict Open XML", "save it as DOCX or PPTX"),
    ("is an image", "a better scan, or nothing"),
    ("unknown encoding", "save it as UTF-8"),
    ("unpacks to far more", "it is a bomb, or no document"),
    ("declares XML entities", "it is a bomb, or no document"),
    ("its parser", "split it, or export it again"),
    ("needs too much memory", "split it"),
    ("of text", "split it"),
    ("is larger than", "raise `CORTEX_ARCHIVE_*` if it is honest"),
    ("is a symbolic link", "put the file itself there; links are never followed"),
    ("is no regular file", "put the file itself there; links are never followed"),
    ("its name", "rename it"),
    ("its path is longer", "rename it"),
    ("lies deeper than 64", "rename it"),
    ("no commit yet", "commit something"),
    ("out of the project's folder", "it names files outside its project, or is damaged"),
    ("CORTEX_REMOTES", "whoever runs Cortex can add it"),
    ("holds no token", "set it where Cortex runs"),
    ("cannot be read", "let the user that runs Cortex read it, then `cortex retry`"),
)
_NUMBER = re.compile(r"\d+")
# No key of what is there has this version: it is taken to be made by other code.
_STALE = ""


@dataclass(frozen=True)
class Group:
    """Everything that was not read for one reason, and what to do about it, which may be empty."""

    reason: str
    paths: tuple[str, ...]
    hint: str

    def told(self, most: int | None = FIRST) -> dict[str, Any]:
        """The group with its first paths, as JSON holds it."""
        return {"reason": self.reason, "count": len(self.paths), "to_do": self.hint, "paths": list(self.paths[:most])}


def grouped(rows: Iterable[tuple[str, str]]) -> list[Group]:
    """Paths with their reasons, by reason, the most frequent first; reasons that differ in details only are one."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, reason in sorted(rows):
        groups[_NUMBER.sub("0", _cause(reason))].append((path, reason))
    found = [
        Group(_cause(members[0][1]), tuple(path for path, _ in members), hint(members[0][1]))
        for members in groups.values()
    ]
    return sorted(found, key=lambda group: (-len(group.paths), group.reason))


def hint(reason: str) -> str:
    """What to do about a reason; empty where nothing is known."""
    return next((what for words, what in HINTS if words in reason), "")


def told(rows: Iterable[Mapping[str, Any]], most: int = 50) -> dict[str, Any]:
    """What a check shows of rows of the quarantine: how many, and by reason the first paths and what to do."""
    groups = grouped((row["path"], row["reason"]) for row in rows)
    return {
        "count": sum(len(group.paths) for group in groups),
        "reasons": [group.told() for group in groups[:most]],
    }


def matching(paths: Iterable[str], reason: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row is of one of the paths, or beneath one, and its reason holds the words; no paths mean all."""
    wanted = [path.strip("/") for path in paths]

    def fits(row: Mapping[str, Any]) -> bool:
        of = not wanted or any(row["path"] == path or row["path"].startswith(f"{path}/") for path in wanted)
        return of and reason.casefold() in row["reason"].casefold()

    return fits


def release(store: "ProjectStore", fits: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    """Let the next run try again what is in quarantine and fits; the paths of that.

    Each stays listed until it has been tried. What has the content of one that is tried again is tried again too.
    """
    if not any(map(fits, store.snapshot().rows("quarantine", ["path", "reason"]))):
        return []
    with store.publishing() as writer:
        rows = [row for row in writer.rows("quarantine") if fits(row)]
        files = {row["landed"] for row in rows if row["landed"]}
        digests = {row["digest"] for row in writer.rows("landed", where={"path": sorted(files)})} if files else ()
        landed = writer.rows("landed", where={"digest": sorted(digests)}) if digests else []
        writer.upsert("landed", [row | {"version": _STALE} for row in landed])
        # A bundle that is as broken as it was is not opened again: by its digest.
        writer.upsert("quarantine", [row | {"digest": _STALE} for row in rows if not row["landed"]])
        writer.publish()
    return sorted(row["path"] for row in rows)


def _cause(reason: str) -> str:
    """A reason without its details."""
    return reason.partition(":")[0].strip()
