"""The reports of planning: gaps, compliance, ideas, roadmap."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cortex_pipelines.evidence import Evidence, load
from cortex_pipelines.reports.analysis import BASIS, findings_table
from cortex_pipelines.reports.markdown import code, escape, paragraphs, quote_block, table

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

STATUSES = {
    "unmapped": "Nothing in the code comes near",
    "partially_implemented": "Part of it is there",
    "unknown": "Not decided on the evidence at hand",
    "implemented": "Found in the code",
}
PRIORITIES = ("high", "medium", "low")
EVIDENCE_SHOWN = 4
GAPS_SHOWN = 200


def render_gap_report(snapshot: "Snapshot", project: str) -> str:
    """Every requirement with its status, the gaps first."""
    gaps = snapshot.rows("gaps")
    strength = ["must", "should", "may"]
    ordered = sorted(gaps, key=lambda row: (strength.index(row["strength"]), row["source"], row["line_start"]))
    counts = Counter(row["status"] for row in gaps)
    parts = [
        table(
            ("status", "requirements", "what it means"),
            [(escape(status), str(counts[status]), meaning) for status, meaning in STATUSES.items()],
        ),
        _bars(counts),
    ]
    for status, meaning in STATUSES.items():
        own = [row for row in ordered if row["status"] == status]
        if own:
            parts += [f"## {meaning}", *[_gap(row) for row in own[:GAPS_SHOWN]]]
    return paragraphs(
        f"# Gap report of {escape(project)}",
        BASIS,
        *(parts if gaps else ["No requirement was found in the documents of this project."]),
    )


def render_compliance_report(snapshot: "Snapshot", project: str) -> str:
    """What is wrong with the specifications themselves."""
    return paragraphs(
        f"# Compliance report of {escape(project)}",
        BASIS,
        "Critical findings block what is built from the specifications.",
        findings_table(snapshot.rows("compliance")),
    )


def render_ideas(snapshot: "Snapshot", project: str) -> str:
    """What chats held, by kind."""
    rows = snapshot.rows("ideas")
    parts = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = sorted((row for row in rows if row["kind"] == kind), key=lambda row: (row["source"], row["line_start"]))
        parts.append(f"## {escape(kind.capitalize())}")
        for row in own:
            said = f"{escape(row['text'])} ({escape(row['speaker'])}, {escape(row['time'])}, {code(_place(row))})"
            parts.append(quote_block(row["quote"]) if kind == "code" else f"- {said}")
    return paragraphs(f"# Ideas of {escape(project)}", BASIS, *(parts or ["No chat export lies in this project."]))


def render_roadmap(snapshot: "Snapshot", project: str) -> str:
    """Phases, the critical path, and every node with what it waits for and why it is there."""
    nodes = sorted(
        snapshot.rows("roadmap"), key=lambda row: (row["phase"], PRIORITIES.index(row["priority"]), row["label"])
    )
    labels = {row["node_id"]: row["label"] for row in nodes}
    critical = [row["label"] for row in nodes if row["critical"]]
    parts = ["**Critical path:** " + " → ".join(map(escape, critical))] if critical else []
    for phase in dict.fromkeys(row["phase"] for row in nodes):
        own = [row for row in nodes if row["phase"] == phase]
        parts.append(f"## Phase {phase}")
        parts.append(
            table(
                ("node", "type", "priority", "effort", "after"),
                [
                    (
                        escape(row["label"]),
                        escape(row["node_type"]),
                        escape(row["priority"]),
                        escape(row["effort"]),
                        escape(", ".join(labels.get(name, name) for name in row["depends_on"])),
                    )
                    for row in own
                ],
            )
        )
        parts += [_node(row) for row in own]
    opening = _overview(snapshot, "roadmap", labels)
    return paragraphs(f"# Roadmap of {escape(project)}", *opening, *(parts or [BASIS, "There is nothing left to do."]))


def _overview(snapshot: "Snapshot", product: str, labels: Mapping[str, str]) -> list[str]:
    """What a lane wrote on top of a product, each sentence with what it stands on; and whether one did."""
    written = snapshot.rows("overviews", None, {"product": product})
    if not written:
        return [BASIS]
    [row] = written
    sentences = [
        f"- {escape(sentence)} ({'; '.join(f'*{escape(labels[node])}*' for node in nodes if node in labels)})"
        for sentence, nodes in json.loads(row["text"])
    ]
    by = f"{escape(row['model'])}, lane {escape(row['lane'])}"
    basis = f"*From deterministic evidence; of it the overview was written by {by}.*"
    return [basis, "## Overview", "\n".join(sentences)]


def _gap(row: Mapping[str, Any]) -> str:
    files = ", ".join(code(name) for name in row["related_files"][:8])
    return paragraphs(
        f"### {escape(row['label'])}",
        f"{escape(row['statement'])}",
        f"{escape(row['strength'])}, {escape(row['status'])}, confidence {row['confidence']:.2f}; "
        f"required in {code(_place(row))}. {escape(row['notes'])}",
        f"Related: {files}" if files else "",
        _evidence(load(row["evidence"])),
    ).rstrip()


def _node(row: Mapping[str, Any]) -> str:
    options = "; ".join(map(escape, row["decision_options"]))
    return paragraphs(
        f"### {escape(row['label'])}",
        escape(row["description"]),
        f"Options: {options}" if options else "",
        _evidence(load(row["evidence"])),
    ).rstrip()


def _evidence(evidence: Sequence[Evidence]) -> str:
    return "\n\n".join(f"{code(item.location)}\n\n{quote_block(item.quote)}" for item in evidence[:EVIDENCE_SHOWN])


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['source']}:{row['line_start']}"


def _bars(counts: Mapping[str, int]) -> str:
    """A bar of blocks per status, since a share is sooner seen than read."""
    total = sum(counts.values())
    if not total:
        return ""
    width = max(map(len, STATUSES))
    lines = [f"{status:<{width}} {'█' * round(40 * counts[status] / total)} {counts[status]}" for status in STATUSES]
    return "\n".join(["```text", *lines, "```"])
