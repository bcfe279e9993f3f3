"""documents: the text of everything that landed and is no repository."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cortex_pipelines.ingest.parsing import Heading, Page, Parsed, Unreadable
from cortex_pipelines.ingest.reader import DocumentReader
from cortex_pipelines.ingest.scan import open_plain, project_sources
from cortex_pipelines.stairs import Batch, Item, Outcome, Plan, Stair, Verdict, Work, compare, cut

VERSION = "1"
STAGE = "documents"
LISTED = 50


@dataclass(frozen=True)
class Document:
    """A parsed document."""

    path: str
    media_type: str
    title: str
    text: str
    headings: tuple[Heading, ...]
    pages: tuple[Page, ...]
    digest: str
    size: int

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Document":
        """The document of a row of the table `documents`."""
        return cls(
            row["path"],
            row["media_type"],
            row["title"],
            row["text"],
            tuple(Heading(**item) for item in json.loads(row["headings"])),
            tuple(Page(**item) for item in json.loads(row["pages"])),
            row["digest"],
            row["size"],
        )


def plan_documents(work: Work) -> Plan:
    scan = project_sources(work)
    current = _items(work, scan.sources)
    changes = compare(current, {} if work.force else _stored(work), work.store.staging(STAGE).items())
    return Plan(cut(changes.todo), {})


def map_documents(work: Work, batch: Batch) -> dict[str, int]:
    folder = work.settings.inbox / work.project
    documents, quarantine, items = [], [], {}
    with DocumentReader() as reader:
        for item in batch.items:
            try:
                data = _read(folder / item.id)
            except FileNotFoundError:
                continue  # it vanished since it was listed: the next scan will not see it
            except OSError as error:
                digest = item.key.partition(":")[0]
                quarantine.append(_refused(item.id, f"cannot be read: {error.strerror}", digest, item.size))
                items[item.id] = item.key
                continue
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            items[item.id] = f"{digest}:{VERSION}"
            try:
                documents.append(_row(item.id, digest, len(data), reader.parse(item.id, data)))
            except Unreadable as error:
                quarantine.append(_refused(item.id, str(error), digest, len(data)))
    work.store.staging(STAGE).put(batch.name, {"documents": documents, "quarantine": quarantine}, items)
    return {"documents": len(documents), "quarantined": len(quarantine)}


def commit_documents(work: Work, plan: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
    scan = project_sources(work)
    current = {item.id: item.key for item in _items(work, scan.sources)}
    refused = [_refused(refusal.path, refusal.reason) for refusal in scan.refused]
    stored = _stored(work)
    snapshot = work.store.snapshot()
    was_refused = {
        row["path"]: row["reason"]
        for row in snapshot.rows("quarantine", ["path", "reason", "digest"], {"stage": STAGE})
        if row["digest"] == ""
    }
    gone = [path for path in stored if path not in current]
    staging = work.store.staging(STAGE)
    names = staging.names()
    changed = bool(names or gone or {r["path"]: r["reason"] for r in refused} != was_refused)
    if changed:
        with work.store.publishing() as writer:
            writer.forget(gone)
            writer.delete("quarantine", "path", was_refused)
            for items, tables in staging.tables(names):
                done = {path for path, key in items.items() if current.get(path) == key}
                for table in ("documents", "quarantine"):
                    rows = [row for row in tables[table].to_pylist() if row["path"] in done]
                    writer.replace(table, "path", done, rows)
            writer.upsert("quarantine", refused)
            keys = [row["path"] for row in writer.rows("documents", ["path"])]
            unique = len(keys) == len(set(keys))
            if unique:
                writer.publish()
                staging.clear(names)
    else:
        unique = True
    snapshot = work.store.snapshot()
    documents = snapshot.count("documents")
    bad = snapshot.rows("quarantine", ["path", "reason"], {"stage": STAGE})
    landed = documents > 0 or any(source.kind != "file" for source in scan.sources)
    return Outcome(
        {
            "documents": documents,
            "read": sum(count["documents"] for count in counts),
            "gone": len(gone),
            "quarantined": len(bad),
        },
        snapshot.versions("documents", "quarantine"),
        {
            "not_empty": Verdict(landed, warn=True),
            "quarantine": Verdict(
                not bad, warn=True, metadata={"files": [f"{r['path']}: {r['reason']}" for r in bad[:LISTED]]}
            ),
            "keys_unique": Verdict(unique),
        },
        changed,
    )


DOCUMENTS = Stair(plan_documents, map_documents, commit_documents)


def _items(work: Work, sources: Sequence[Any]) -> list[Item]:
    return [
        Item(source.path, f"{source.digest}:{VERSION}", source.size)
        for source in sources
        if source.kind == "file" and source.size <= work.settings.deep_ingest_bytes
    ]


def _stored(work: Work) -> dict[str, str]:
    snapshot = work.store.snapshot()
    bad = snapshot.rows("quarantine", ["path", "digest", "version"], {"stage": STAGE})
    return snapshot.keys("documents") | {r["path"]: f"{r['digest']}:{r['version']}" for r in bad if r["digest"]}


def _row(path: str, digest: str, size: int, parsed: Parsed) -> dict[str, Any]:
    return {
        "path": path,
        "digest": digest,
        "version": VERSION,
        "media_type": parsed.media_type,
        "title": parsed.title or (parsed.headings[0].text if parsed.headings else Path(path).stem),
        "text": parsed.text,
        "headings": json.dumps([asdict(heading) for heading in parsed.headings]),
        "pages": json.dumps([asdict(page) for page in parsed.pages]),
        "size": size,
        "parser": parsed.media_type,
    }


def _refused(path: str, reason: str, digest: str = "", size: int = 0) -> dict[str, Any]:
    return {"path": path, "stage": STAGE, "digest": digest, "version": VERSION, "size": size, "reason": reason}


def _read(path: Path) -> bytes:
    with open_plain(path) as file:
        return file.read()
