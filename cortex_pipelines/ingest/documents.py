"""documents: the text of everything that landed and is no repository, each text once, and each place that holds it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cortex_pipelines.ingest.archives import is_archive
from cortex_pipelines.ingest.contents import STAGE, Rows, bettering, read_landed, refused_row
from cortex_pipelines.ingest.parsing import Heading, Page
from cortex_pipelines.ingest.placing import content_key, landing_of, write_landing
from cortex_pipelines.ingest.quarantine import told
from cortex_pipelines.ingest.reader import DocumentReader
from cortex_pipelines.ingest.scan import file_head, project_sources
from cortex_pipelines.ingest.secrets import version_with
from cortex_pipelines.stairs import Batch, Item, Outcome, Plan, Stair, Verdict, Work, compare, cut

if TYPE_CHECKING:
    from cortex_pipelines.ingest.manifest import Source
    from cortex_pipelines.store import Publishing, Snapshot

    Reader = Snapshot | Publishing

Row = dict[str, Any]

# Raise it when the same file would become other rows.
VERSION = "2"


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
    current = document_items(work, project_sources(work).sources)
    stored = {} if work.force else work.store.snapshot().keys("landed")
    staged = work.store.staging(STAGE).items()
    new = compare(current, stored, staged).todo
    keys = {item.key for item in new}
    done = {content_key(path, key) for path, key in stored.items() if key in keys}
    done |= {content_key(item.id, item.key) for item in current if item.key in staged.get(item.id, ())}
    todo = []
    for item in new:
        # What has the content of another file, or had another name, is not read again.
        if (content := content_key(item.id, item.key)) not in done:
            done.add(content)
            todo.append(item)
    return Plan(cut(todo), {})


def map_documents(work: Work, batch: Batch) -> dict[str, int]:
    folder = work.settings.inbox / work.project
    rows = Rows(work.store.staging(STAGE), batch.name, bettering(work))
    with DocumentReader() as reader:
        for item in batch.items:
            try:
                read_landed(folder / item.id, item, reader, rows, work)
            except FileNotFoundError:
                continue  # it vanished since it was listed: the next scan will not see it
    rows.flush()
    return {"documents": rows.documents, "quarantined": rows.quarantined}


def commit_documents(work: Work, plan: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
    scan = project_sources(work)
    current = {item.id: item.key for item in document_items(work, scan.sources)}
    refused = [refused_row(refusal.path, refusal.path, refusal.reason) for refusal in scan.refused]
    staging = work.store.staging(STAGE)
    names = staging.names()
    snapshot = work.store.snapshot()
    gone = 0
    changed = bool(names) or _moved(snapshot, current, refused)
    unique = True
    if changed:
        with work.store.publishing() as writer:
            landing = landing_of(writer, current, staging, work.force)
            gone = len(landing.gone - landing.fresh.keys() - set(landing.same))
            write_landing(writer, landing, staging, names, work.force)
            writer.delete("quarantine", "path", _were_refused(writer))
            writer.upsert("quarantine", refused)
            paths = writer.arrow("documents", ["path"])["path"]
            unique = len(paths) == len(paths.unique())
            if unique:
                writer.publish()
                staging.clear(names)
    snapshot = work.store.snapshot()
    documents = snapshot.count("documents")
    bad = snapshot.rows("quarantine", ["path", "reason"], {"stage": STAGE})
    landed = documents > 0 or any(source.kind != "file" for source in scan.sources)
    return Outcome(
        {
            "documents": documents,
            "read": sum(count["documents"] for count in counts),
            "copies": snapshot.count("holders") - documents,
            "gone": gone,
            "secrets": snapshot.count("secrets"),
            "quarantined": len(bad),
        },
        snapshot.versions("documents", "quarantine"),
        {
            "not_empty": Verdict(landed, warn=True),
            "quarantine": Verdict(not bad, warn=True, metadata=told(bad)),
            "keys_unique": Verdict(unique),
        },
        changed,
    )


DOCUMENTS = Stair(plan_documents, map_documents, commit_documents)


def document_items(work: Work, sources: "Sequence[Source]") -> list[Item]:
    """The files that documents are read from; a large one only where it is an archive."""
    folder, version = work.settings.inbox / work.project, version_with(VERSION, work.settings.mask_secrets)
    return [
        Item(source.path, f"{source.digest}:{version}", source.size)
        for source in sources
        if source.kind == "file"
        and (source.size <= work.settings.deep_ingest_bytes or is_archive(source.path, file_head(folder / source.path)))
    ]


def _moved(snapshot: "Snapshot", current: Mapping[str, str], refused: Sequence[Row]) -> bool:
    """Whether anything landed, changed or went, of what needs no reading."""
    reasons = {row["path"]: row["reason"] for row in refused}
    return snapshot.keys("landed") != current or _were_refused(snapshot) != reasons


def _were_refused(reader: "Reader") -> dict[str, str]:
    rows = reader.rows("quarantine", ["path", "reason"], {"stage": STAGE, "digest": ""})
    return {row["path"]: row["reason"] for row in rows}
