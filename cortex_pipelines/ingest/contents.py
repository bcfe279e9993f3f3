"""What a file of the inbox holds, as rows: a document with its attachments, or each member of an archive."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cortex_pipelines.ingest.archives import Limits, Member, Refused, is_archive, members
from cortex_pipelines.ingest.betterment import better
from cortex_pipelines.ingest.chats import people_of
from cortex_pipelines.ingest.describe import Description, describe
from cortex_pipelines.ingest.near import sketch
from cortex_pipelines.ingest.parsing import Parsed, Unreadable
from cortex_pipelines.ingest.reader import DocumentReader
from cortex_pipelines.ingest.scan import HEAD_BYTES, file_digest, file_head, is_left_out, open_plain
from cortex_pipelines.ingest.secrets import Secret, find_secrets, masked, secret_rows
from cortex_pipelines.stairs import Item, Work

if TYPE_CHECKING:
    from cortex_pipelines.settings import Settings
    from cortex_pipelines.store.staging import Staging

Row = dict[str, Any]

STAGE = "documents"
# Slack's exports are such archives, and these files of them name users and channels.
ZIP = b"PK\x03\x04"
PEOPLE = ("users.json", "channels.json")
# Text that waits in memory to be staged; an archive holds far more.
PART_BYTES = 16 * 2**20
# An attachment may hold attachments: mails are forwarded, and archives of mails dropped.
MOST_DEPTH = 4
MOST_PARTS = 1_000
NAME_CHARACTERS = 200
# Part n of what a file holds is staged under the file's name and this.
PART = "\0"


class Rows:
    """Rows that wait to be staged, in parts that fit into memory. A part may hold the beginning of a file only."""

    def __init__(self, staging: "Staging", batch: str, better: Callable[[list[Row]], None]) -> None:
        self._staging = staging
        self._batch = batch
        self._better = better
        self._tables: dict[str, list[Row]] = {}
        self._items: dict[str, str] = {}
        self._bytes = 0
        self._parts = 0
        self.documents = 0
        self.quarantined = 0

    def add(self, table: str, row: Row) -> None:
        self._tables.setdefault(table, []).append(row)
        self.documents += table == "documents"
        self.quarantined += table == "quarantine"
        self._bytes += len(row.get("text", ""))

    def done(self, path: str, key: str, size: int) -> None:
        """All that the file `path` holds is added."""
        self.add("landed", landed_row(path, key, size))
        self._items[path] = key

    def flush_if_full(self, path: str, key: str) -> None:
        """Stage what is there when it is much; `path` is read on."""
        if self._bytes >= PART_BYTES:
            self._items[f"{path}{PART}{self._parts}"] = key
            self.flush()

    def flush(self) -> None:
        if self._tables:
            self._better(self._tables.get("documents", []))
            self._staging.put(f"{self._batch}-{self._parts:05d}", self._tables, self._items)
        self._tables, self._items, self._bytes = {}, {}, 0
        self._parts += 1


def read_landed(path: Path, item: Item, reader: DocumentReader, rows: Rows, work: Work) -> None:
    """Add the rows of a file: of one document with its attachments, or of each member of an archive."""
    expected, _, version = item.key.partition(":")
    held = _Held(item.id, reader, rows, item.key, work.settings)
    try:
        if is_archive(item.id, file_head(path)):
            held.unpack(item.id, path)
            # Its digest is that of the scan; what changed since will be seen by the next one.
            if file_digest(path) == expected:
                rows.done(item.id, item.key, item.size)
            return
        with open_plain(path) as file:
            data = file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        held.refuse(item.id, f"cannot be read: {error.strerror}")
        rows.done(item.id, item.key, item.size)
        return
    digest = _digest(data)
    held.key = f"{digest}:{version}"
    held.add(item.id, data)
    rows.done(item.id, held.key, len(data))


def landed_row(path: str, key: str, size: int) -> Row:
    """The row of a file of the inbox that was read; `size` in bytes."""
    digest, _, version = key.partition(":")
    return {"path": path, "digest": digest, "version": version, "size": size}


def refused_row(path: str, landed: str, reason: str, digest: str = "", size: int = 0, version: str = "") -> Row:
    """The row of something that lies in the file `landed` and has no document."""
    return {
        "path": path,
        "stage": STAGE,
        "digest": digest,
        "version": version,
        "size": size,
        "reason": reason,
        "landed": landed,
    }


def suffix_of(path: str) -> str:
    """The ending of a name, in lower case; it has a say in how a content is read."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""


def bettering(work: Work) -> Callable[[list[Row]], None]:
    """What betters the descriptions of documents in place: a lane, where that is wanted and there is one."""
    lanes = work.lanes
    if lanes is None or not work.settings.better_descriptions:
        return lambda rows: None

    def better_rows(rows: list[Row]) -> None:
        told = [Description(row["language"], tuple(row["topics"]), row["summary"]) for row in rows]
        asked = [(row["text"], row["title"], one) for row, one in zip(rows, told, strict=True)]
        for row, bettered in zip(rows, better(lanes, asked), strict=True):
            row["title"] = bettered.title
            row["topics"] = list(bettered.description.topics)
            row["summary"] = bettered.description.summary

    return better_rows


def _people(path: Path, limits: Limits) -> dict[str, str]:
    """The names of an export's speakers by their ids, of an archive that is one of Slack."""
    people: dict[str, str] = {}
    if file_head(path).startswith(ZIP):
        for member in members(path, limits, lambda name: name.rpartition("/")[2] in PEOPLE, nested=False):
            if isinstance(member, Member):
                people |= people_of(member.path, member.data) or {}
    return people


def _is_wanted(name: str) -> bool:
    """Whether a member is read; what a scan of folders leaves out is left out here too."""
    return not any(is_left_out(part) for part in name.split("/"))


class _Held:
    """Adds what one file of the inbox holds."""

    def __init__(self, landed: str, reader: DocumentReader, rows: Rows, key: str, settings: "Settings") -> None:
        self._landed = landed
        self._reader = reader
        self._rows = rows
        self.key = key
        self._limits = Limits.of(settings)
        self._mask = settings.mask_secrets
        self._people: dict[str, str] = {}
        self._names: set[str] = set()

    def unpack(self, path: str, archive: Path, depth: int = 0) -> None:
        """Add the members of an archive, which is called `path`."""
        self._people = _people(archive, self._limits)
        for member in members(archive, self._limits, _is_wanted):
            # A reason without a path is of the archive as a whole.
            name = f"{path}/{member.path}" if member.path else path
            if isinstance(member, Refused):
                self.refuse(name, member.reason)
            else:
                self.add(name, member.data, depth)

    def add(self, path: str, data: bytes, depth: int = 0) -> None:
        """Add a document and those that are attached to it, or why there is none."""
        path = self._unique(path)
        digest = _digest(data)
        try:
            parsed = self._reader.parse(path, data, self._people)
        except Unreadable as error:
            self.refuse(path, str(error), digest, len(data))
            return
        for table, row in _rows_of(
            path, self._landed, digest, len(data), self.key.partition(":")[2], parsed, self._mask
        ):
            self._rows.add(table, row)
        self._rows.flush_if_full(self._landed, self.key)
        for number, part in enumerate(parsed.parts):
            name = f"{path}/{_plain(part.name) or number}"
            if depth == MOST_DEPTH or number == MOST_PARTS:
                self.refuse(name, f"is one of more than {MOST_PARTS} attachments, or attached {MOST_DEPTH} deep")
                break
            if not is_archive(name, part.data[:HEAD_BYTES]):
                self.add(name, part.data, depth + 1)
                continue
            # As it was attached, and for as long as it is read: archives are read from files.
            with tempfile.NamedTemporaryFile(prefix="attached-") as file:
                file.write(part.data)
                file.flush()
                self.unpack(name, Path(file.name), depth + 1)

    def refuse(self, path: str, reason: str, digest: str = "", size: int = 0) -> None:
        """Add why something has no document."""
        self._names.add(path)
        known, _, version = self.key.partition(":")
        self._rows.add("quarantine", refused_row(path, self._landed, reason, digest or known, size, version))

    def _unique(self, path: str) -> str:
        """A name that nothing else in the file has: archives and mails may use one twice."""
        stem, dot, suffix = path.rpartition(".")
        number, name = 1, path
        while name in self._names:
            number += 1
            name = f"{stem} ({number}){dot}{suffix}" if dot and "/" not in suffix else f"{path} ({number})"
        self._names.add(name)
        return name


def _plain(name: str) -> str:
    """The name of something attached as one part of a path; it is the sender's choice."""
    shown = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in name[:NAME_CHARACTERS])
    return shown.strip(". ")


def _rows_of(
    path: str, landed: str, digest: str, size: int, version: str, parsed: Parsed, mask: bool
) -> Iterator[tuple[str, Row]]:
    """The rows of a document by table."""
    found = find_secrets(parsed.text)
    if mask:
        parsed = _without_secrets(parsed, found)
    title = parsed.title or (parsed.headings[0].text if parsed.headings else "")
    described = describe(parsed.text, title, parsed.headings)
    of = {"digest": digest, "version": version}
    yield "holders", {"path": path, "landed": landed, "digest": digest, "document": path}
    yield (
        "documents",
        of
        | {
            "path": path,
            "media_type": parsed.media_type,
            "title": title or Path(path).stem,
            "text": parsed.text,
            "headings": json.dumps([asdict(heading) for heading in parsed.headings]),
            "pages": json.dumps([asdict(page) for page in parsed.pages]),
            "size": size,
            "language": described.language,
            "topics": list(described.topics),
            "summary": described.summary,
            "details": json.dumps(dict(parsed.details)),
        },
    )
    for message in parsed.messages:
        key = _digest(f"{path}\0{digest}\0{message.number}".encode())
        yield "messages", asdict(message) | of | {"message_id": key, "source": path}
    for row in secret_rows(path, digest, version, found):
        yield "secrets", row
    if drawn := sketch(path, digest, parsed.text):
        yield "sketches", drawn


def _without_secrets(parsed: Parsed, found: Sequence[Secret]) -> Parsed:
    """The same with stars for secrets, in everything that is kept of it."""

    def clean(text: str) -> str:
        return masked(text, find_secrets(text))

    return replace(
        parsed,
        text=masked(parsed.text, found),
        title=clean(parsed.title),
        headings=tuple(replace(heading, text=clean(heading.text)) for heading in parsed.headings),
        messages=tuple(
            replace(message, text=clean(message.text), thread=clean(message.thread)) for message in parsed.messages
        ),
        details={name: clean(value) for name, value in parsed.details.items()},
    )


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
