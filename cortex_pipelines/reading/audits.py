"""deep_ingest_audits: inputs larger than any window read through once, with what was found and what was not read."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cortex_pipelines.evidence import Evidence, Finding, Severity, evidence_of, resolves
from cortex_pipelines.ingest.documents import document_items
from cortex_pipelines.ingest.scan import open_plain, project_sources
from cortex_pipelines.reading.lines import Ledger, batches, blocks, read_lines
from cortex_pipelines.reading.shapes import Level, Shape, ShapeTable
from cortex_pipelines.stairs import Batch, Item, Outcome, Plan, Stair, Verdict, Work, compare, cut

if TYPE_CHECKING:
    from cortex_pipelines.store import Publishing, Snapshot

    Reader = Snapshot | Publishing

VERSION = "1"
PRODUCT = "deep_ingest_audits"
TEXT, REPOSITORY = "text", "repository"
# A text of more bytes has more tokens than the widest default window, 256k of about four bytes each.
WINDOW_BYTES = 2**20
# Documents whose text is the file itself, line by line.
PLAIN = ("text/", "application/json", "application/yaml", "application/toml", "application/xml", "application/x-subrip")

# What one would read of a log; more of them are counted, not listed.
FINDINGS = 40
SHAPES_KEPT = 30
MARKS_PER_REPOSITORY = 200
QUOTE_CHARACTERS = 300
SOURCES_PER_READ = 200

_SEVERITIES = {Level.FATAL: Severity.CRITICAL, Level.ERROR: Severity.HIGH, Level.WARNING: Severity.LOW}
_MARKS = (
    # The keys' own formats: PEM (RFC 7468), AWS, GitHub, Slack; only what names the format is quoted, never the secret.
    (
        "secret",
        Severity.CRITICAL,
        "A secret seems to be committed here.",
        re.compile(
            r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"
            r"|\b(?:AKIA|ASIA)(?=[0-9A-Z]{16}\b)|\bgh[pousr]_(?=\w{36})|\bxox[baprs]-(?=\w{10})"
        ),
    ),
    ("merge-conflict", Severity.HIGH, "A conflict of a merge was committed.", re.compile(r"^<{7} \S.*$", re.M)),
    (
        "unfinished",
        Severity.INFO,
        "The code says itself that it is not finished.",
        re.compile(r"\b(?:TO-?DO|FIXME|XXX)\b[^\n]*"),
    ),
)

Row = dict[str, Any]


@dataclass
class Audit:
    """What reading an input through gave."""

    total: int
    read: int
    skipped: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def _plan(work: Work) -> Plan:
    snapshot = work.store.snapshot()
    stored = {} if work.force else snapshot.keys("audits")
    changes = compare(_items(work, snapshot), stored, work.store.staging(PRODUCT).items())
    return Plan(cut(changes.todo))


def _map(work: Work, batch: Batch) -> Mapping[str, int]:
    snapshot = work.store.snapshot()
    repositories = {row["path"] for row in snapshot.rows("repositories", ["path"])}
    audits: list[Row] = []
    findings: list[Row] = []
    items = {}
    for item in batch.items:
        digest = item.key.partition(":")[0]
        try:
            if item.id in repositories:
                kind, audit = REPOSITORY, audit_repository(snapshot, item.id)
            else:
                kind, audit = TEXT, audit_text(work, item.id)
        except FileNotFoundError:
            continue  # it vanished since it was listed
        except OSError as error:
            kind, audit = TEXT, Audit(item.size, 0, Counter({f"cannot be read: {error.strerror or error}": item.size}))
        audits.append(_audit_row(item.id, kind, digest, audit))
        findings += _finding_rows(item.id, digest, audit.findings)
        items[item.id] = item.key
    work.store.staging(PRODUCT).put(batch.name, {"audits": audits, "audit_findings": findings}, items)
    return {"audited": len(audits), "findings": len(findings)}


def _commit(work: Work, plan: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
    snapshot = work.store.snapshot()
    current = {item.id: item.key for item in _items(work, snapshot)}
    gone = [source for source in snapshot.keys("audits") if source not in current]
    staging = work.store.staging(PRODUCT)
    names = staging.names()
    verdicts = _verdicts(snapshot, 0)
    if names or gone:
        with work.store.publishing() as writer:
            writer.delete("audits", "source", gone)
            writer.delete("audit_findings", "audit", gone)
            dropped = 0
            for items, tables in staging.tables(names):
                done = {source for source, key in items.items() if current.get(source) == key}
                rows = [row for row in tables["audits"].to_pylist() if row["source"] in done]
                found = [row for row in tables["audit_findings"].to_pylist() if row["audit"] in done]
                kept = _resolving(work, writer, found)
                dropped += len(found) - len(kept)
                writer.replace("audits", "source", done, rows)
                writer.replace("audit_findings", "audit", done, kept)
            verdicts = _verdicts(writer, dropped)
            if all(verdict.passed for verdict in verdicts.values()):
                writer.publish()
                staging.clear(names)
    snapshot = work.store.snapshot()
    return Outcome(
        {
            "audits": snapshot.count("audits"),
            "audited": sum(count["audited"] for count in counts),
            "gone": len(gone),
            "findings": snapshot.count("audit_findings"),
        },
        snapshot.versions("audits", "audit_findings"),
        verdicts,
        changed=bool(names or gone),
    )


DEEP_INGEST_AUDITS = Stair(_plan, _map, _commit)


def audit_text(work: Work, source: str) -> Audit:
    """Read a text file through, in constant memory: its shapes, and where the bad ones begin. Raises `OSError`."""
    ledger, table = Ledger(), ShapeTable()
    with open_plain(work.settings.inbox / work.project / source) as stream:
        for first, lines in batches(blocks(stream), ledger):
            table.add(first, lines)
    shapes = sorted(table.shapes.values(), key=lambda shape: -shape.count)
    levels = table.by_level()
    bad = [shape for shape in shapes if shape.level >= Level.WARNING and (shape.stated or shape.timed)]
    bad.sort(key=lambda shape: (-shape.level, shape.first))
    audit = Audit(ledger.total, ledger.read, Counter(ledger.skipped), ledger.lines)
    audit.findings = [_shape_finding(source, shape) for shape in bad[:FINDINGS]]
    audit.summary = {
        "shapes": len(shapes) + table.evicted_shapes,
        "levels": {level.name.lower(): levels[level] for level in Level if levels[level]},
        "findings_not_listed": max(0, len(bad) - FINDINGS),
        "most_frequent": [
            {"count": shape.count, "first": shape.first, "last": shape.last, "sample": shape.sample}
            for shape in shapes[:SHAPES_KEPT]
        ],
    }
    return audit


def audit_repository(reader: "Reader", repository: str) -> Audit:
    """Every file of a repository as it was read: how many of its bytes are text, and marks that ask to be looked at."""
    columns = ["source", "size", "lines", "skipped", "language"]
    rows = reader.rows("files", columns, {"repository": repository})
    total = reader.rows("repositories", ["bytes"], {"path": repository})[0]["bytes"]
    audit = Audit(total, sum(row["size"] for row in rows if row["skipped"] is None))
    audit.lines = sum(row["lines"] for row in rows)
    for row in rows:
        if row["skipped"] is not None:
            audit.skipped[row["skipped"]] += row["size"]
    if unread := total - audit.read - audit.skipped.total():
        audit.skipped["in quarantine"] += unread
    readable = sorted(row["source"] for row in rows if row["skipped"] is None)
    marks: Counter[str] = Counter()
    for start in range(0, len(readable), SOURCES_PER_READ):
        for source, text in sorted(reader.texts(readable[start : start + SOURCES_PER_READ]).items()):
            for finding in _marks(source, text):
                marks[finding.rule] += 1
                if marks[finding.rule] <= MARKS_PER_REPOSITORY:
                    audit.findings.append(finding)
    audit.summary = {"files": len(rows), "marks": dict(marks)}
    return audit


def _items(work: Work, reader: "Reader") -> list[Item]:
    large = {
        row["path"]
        for row in reader.rows("documents", ["path", "size", "media_type"])
        if row["size"] > WINDOW_BYTES and row["media_type"].startswith(PLAIN) and row["media_type"] != "text/html"
    }
    # Of a chat's export the text is a transcript.
    exports = {row["source"] for row in reader.rows("messages", ["source"], {"source": sorted(large)})}
    sources = project_sources(work).sources
    read = {item.id for item in document_items(work, sources)}
    files = [
        Item(source.path, f"{source.digest}:{VERSION}", source.size)
        for source in sources
        if source.kind == "file" and (source.path in large - exports or source.path not in read)
    ]
    repositories = [
        Item(row["path"], f"{row['commit']}:{VERSION}", row["bytes"])
        for row in reader.rows("repositories", ["path", "commit", "bytes"])
    ]
    return sorted(files + repositories, key=lambda item: item.id)


def _marks(source: str, text: str) -> Iterator[Finding]:
    for rule, severity, message, pattern in _MARKS:
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Finding(
                "audit", rule, severity, message, Evidence(source, line, line, match.group(0)[:QUOTE_CHARACTERS])
            )


def _shape_finding(source: str, shape: Shape) -> Finding:
    often = "once" if shape.count == 1 else f"{shape.count:,} times, the last in line {shape.last:,}"
    message = f"{shape.level.name.lower()}, {often}: {shape.sample[:160]}"
    evidence = Evidence(source, shape.first, shape.first, shape.sample)
    return Finding("audit", f"log-{shape.level.name.lower()}", _SEVERITIES[shape.level], message, evidence)


def _resolving(work: Work, reader: "Reader", rows: Sequence[Row]) -> list[Row]:
    """The findings whose quotes stand where they say: in a repository's file, or in the large file itself."""
    lines: dict[str, set[int]] = {}
    for row in rows:
        lines.setdefault(row["source"], set()).add(row["line_start"])
    in_files = {row["source"] for row in rows if row["source"] != row["audit"]}
    texts = reader.texts(sorted(in_files)) if in_files else {}
    read: dict[str, dict[int, str]] = {}
    for source in lines.keys() - in_files:
        try:
            read[source] = read_lines(work.settings.inbox / work.project / source, lines[source])
        except OSError:
            read[source] = {}
    kept = []
    for row in rows:
        claim = evidence_of(row)
        if row["source"] in in_files:
            held = resolves(claim, texts.get(row["source"]))
        else:
            held = bool(claim.quote) and claim.quote in read[row["source"]].get(claim.line_start, "")
        if held:
            kept.append(row)
    return kept


def _verdicts(reader: "Reader", dropped: int) -> dict[str, Verdict]:
    audits = reader.rows("audits", ["source", "bytes_total", "bytes_read", "bytes_skipped"])
    wrong = [row["source"] for row in audits if row["bytes_total"] != row["bytes_read"] + row["bytes_skipped"]]
    orphans = {row["audit"] for row in reader.rows("audit_findings", ["audit"])} - {row["source"] for row in audits}
    return {
        "coverage_adds_up": Verdict(not wrong, metadata={"inputs": wrong}),
        "evidence_resolves": Verdict(not orphans, metadata={"dropped": dropped}),
    }


def _audit_row(source: str, kind: str, digest: str, audit: Audit) -> Row:
    return {
        "source": source,
        "kind": kind,
        "digest": digest,
        "version": VERSION,
        "bytes_total": audit.total,
        "bytes_read": audit.read,
        "bytes_skipped": audit.skipped.total(),
        "skipped": json.dumps({why: size for why, size in sorted(audit.skipped.items()) if size}),
        "lines": audit.lines,
        "summary": json.dumps(audit.summary, ensure_ascii=False),
    }


def _finding_rows(source: str, digest: str, findings: Sequence[Finding]) -> Iterator[Row]:
    for number, finding in enumerate(findings):
        place = finding.evidence
        name = f"{source}\0{finding.rule}\0{place.source}\0{place.line_start}\0{number}"
        yield {
            "finding_id": hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=12).hexdigest(),
            "audit": source,
            "section": finding.section,
            "rule": finding.rule,
            "severity": finding.severity.value,
            "message": finding.message,
            "source": place.source,
            "line_start": place.line_start,
            "line_end": place.line_end,
            "quote": place.quote,
            "digest": digest,
            "version": VERSION,
        }
