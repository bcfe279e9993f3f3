"""The reports of what landed: documents, repositories, the index."""

import json
from collections import Counter, defaultdict
from mimetypes import guess_extension
from typing import TYPE_CHECKING

from cortex_pipelines.reports.markdown import code, escape, paragraphs, table

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

ROWS = 500
TOPICS = 4
TOGETHER = 10


def render_documents(snapshot: "Snapshot", project: str) -> str:
    """The inventory of documents, and what was not read and why."""
    columns = ["path", "media_type", "title", "size", "pages", "language", "topics", "summary"]
    documents = sorted(snapshot.rows("documents", columns), key=lambda row: row["path"])
    bad = sorted(snapshot.rows("quarantine", ["path", "stage", "reason"]), key=lambda row: row["path"])
    total = sum(row["size"] for row in documents)
    rows = [
        (
            code(row["path"]),
            escape(row["title"]),
            escape(", ".join(row["topics"][:TOPICS])),
            escape(row["language"]),
            escape(_kind(row["media_type"])),
            str(len(json.loads(row["pages"])) or ""),
            size(row["size"]),
        )
        for row in documents[:ROWS]
    ]
    secrets = sorted(snapshot.rows("secrets"), key=lambda row: (row["source"], row["line"]))
    copies = sorted(
        (row for row in snapshot.rows("holders", ["path", "document"]) if row["path"] != row["document"]),
        key=lambda row: (row["document"], row["path"]),
    )
    return paragraphs(
        f"# Documents of {escape(project)}",
        f"{len(documents):,} documents, {size(total)}, were read; {len(bad):,} things were not.",
        "## Keys and tokens" if secrets else "",
        "What looks like a secret should not lie here: take it back where it was issued, and remove it."
        if secrets
        else "",
        table(
            ("where", "what", "severity"),
            [
                (code(f"{row['source']}:{row['line']}"), escape(row["rule"]), escape(row["severity"]))
                for row in secrets[:ROWS]
            ],
        ),
        _more(len(secrets)),
        "## Not read" if bad else "",
        table(("what", "why"), [(code(row["path"]), escape(row["reason"])) for row in bad[:ROWS]]),
        _more(len(bad)),
        "## Read" if documents else "",
        table(("path", "title", "about", "language", "type", "pages", "size"), rows),
        _more(len(documents)),
        "## The same content" if copies else "",
        table(("path", "is a copy of"), [(code(row["path"]), code(row["document"])) for row in copies[:ROWS]]),
        _more(len(copies)),
        *_near(snapshot),
    )


def _kind(media_type: str) -> str:
    """What people call a type: the ending that its files have, where one is usual."""
    return (guess_extension(media_type) or media_type).removeprefix(".")


def _near(snapshot: "Snapshot") -> list[str]:
    """What is nearly the same, by groups."""
    groups: dict[str, list[str]] = defaultdict(list)
    for row in snapshot.rows("sketches", ["path", "near"]):
        if row["near"]:
            groups[row["near"]].append(row["path"])
    listed = sorted(sorted(paths) for paths in groups.values() if len(paths) > 1)
    if not listed:
        return []
    lines = [", ".join(code(path) for path in paths[:TOGETHER]) + _others(len(paths)) for paths in listed[:ROWS]]
    return ["## Nearly the same content", "\n".join(f"- {line}" for line in lines), _more(len(listed))]


def _others(count: int) -> str:
    return f" and {count - TOGETHER:,} more" if count > TOGETHER else ""


def render_repositories(snapshot: "Snapshot", project: str) -> str:
    """Each repository: its head, its languages, what in it was not read."""
    parts = []
    for row in sorted(snapshot.rows("repositories"), key=lambda row: row["path"]):
        languages = json.loads(row["languages"])
        ordered = sorted(languages.items(), key=lambda item: -item[1]["bytes"])
        skipped = json.loads(row["skipped"])
        branch = f" on {code(row['branch'])}" if row["branch"] else ""
        parts += [
            f"## {code(row['path'])}",
            f"Commit {code(row['commit'][:12])}{branch} of {escape(row['committed_at'])}; {row['commits']:,} commits, "
            f"{row['files']:,} files, {size(row['bytes'])}.",
            table(
                ("language", "files", "lines", "size"),
                [
                    (escape(name), f"{facts['files']:,}", f"{facts['lines']:,}", size(facts["bytes"]))
                    for name, facts in ordered[:30]
                ],
            ),
            table(("not read because", "files"), [(escape(why), f"{count:,}") for why, count in skipped.items()]),
        ]
    return paragraphs(f"# Repositories of {escape(project)}", *(parts or ["No git repository lies in this project."]))


def render_rag_index(snapshot: "Snapshot", project: str) -> str:
    """How much of the project can be asked."""
    chunks = snapshot.rows("chunks", ["kind", "language"])
    kinds = Counter((row["kind"], row["language"] or "") for row in chunks)
    return paragraphs(
        f"# Index of {escape(project)}",
        f"{len(chunks):,} chunks of {snapshot.count('indexed'):,} sources can be searched, by words and by vectors.",
        table(
            ("kind", "language", "chunks"),
            [(escape(kind), escape(language), f"{count:,}") for (kind, language), count in kinds.most_common(40)],
        ),
    )


def size(count: int) -> str:
    """Bytes as people read them."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def _more(count: int) -> str:
    return f"and {count - ROWS:,} more." if count > ROWS else ""
