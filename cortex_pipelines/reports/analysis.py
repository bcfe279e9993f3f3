"""The reports of what was read closely: code analyses and deep-ingest audits."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cortex_pipelines.evidence import Severity
from cortex_pipelines.reports.ingest import size
from cortex_pipelines.reports.markdown import code, escape, paragraphs, table

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

SECTIONS = ("security_concerns", "quality_assessment", "performance_optimizations", "refactoring_suggestions")
FINDINGS_SHOWN = 40
BASIS = "*From deterministic evidence; no model was asked.*"
COLUMNS = ("severity", "where", "what", "line")


def render_code_analyses(snapshot: "Snapshot", project: str) -> str:
    """The four sections of each repository, each finding with its line."""
    parts = []
    for row in sorted(snapshot.rows("code_analyses"), key=lambda row: row["repository"]):
        tools = json.loads(row["tools"])
        findings = snapshot.rows("code_findings", None, {"repository": row["repository"]})
        parts += [f"## {code(row['repository'])}", _tools(tools)]
        for section in SECTIONS:
            own = [finding for finding in findings if finding["section"] == section]
            parts += [f"### {section.replace('_', ' ').capitalize()}", findings_table(own)]
    return paragraphs(
        f"# Code analyses of {escape(project)}", BASIS, *(parts or ["No git repository lies in this project."])
    )


def render_deep_ingest_audits(snapshot: "Snapshot", project: str) -> str:
    """What was read of each large input, what was not, and what was found."""
    audits = sorted(snapshot.rows("audits"), key=lambda row: row["source"])
    parts = [
        table(
            ("input", "kind", "bytes", "read", "skipped", "why"),
            [
                (
                    code(row["source"]),
                    escape(row["kind"]),
                    size(row["bytes_total"]),
                    _share(row["bytes_read"], row["bytes_total"]),
                    _share(row["bytes_skipped"], row["bytes_total"]),
                    escape(", ".join(f"{why}: {count:,}" for why, count in json.loads(row["skipped"]).items())),
                )
                for row in audits
            ],
        )
    ]
    for row in audits:
        found = snapshot.rows("audit_findings", None, {"audit": row["source"]})
        parts += [f"## {code(row['source'])}", findings_table(found)]
    return paragraphs(
        f"# Deep-ingest audits of {escape(project)}",
        BASIS,
        *(parts if audits else ["Nothing in this project is larger than a window."]),
    )


def findings_table(findings: Sequence[Mapping[str, Any]]) -> str:
    """Findings, the worst first, with what was left out counted."""
    if not findings:
        return "Nothing was found."
    ordered = sorted(findings, key=lambda row: (Severity(row["severity"]).rank, row["source"], row["line_start"]))
    counts = Counter(row["severity"] for row in findings)
    told = ", ".join(f"{counts[severity]:,} {severity}" for severity in Severity if counts[severity])
    shown = table(
        COLUMNS,
        [
            (
                escape(row["severity"]),
                code(f"{row['source']}:{row['line_start']}"),
                f"{escape(row['message'])} ({code(row['rule'])})",
                code(row["quote"].strip()[:160]),
            )
            for row in ordered[:FINDINGS_SHOWN]
        ],
    )
    more = f"and {len(findings) - FINDINGS_SHOWN:,} more." if len(findings) > FINDINGS_SHOWN else ""
    return paragraphs(told + ".", shown, more).rstrip()


def _tools(tools: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            escape(run["tool"]),
            escape(str(run["version"])),
            str(run["files_seen"]),
            str(run["files_parsed"]),
            str(len(run["files_failed"]) if isinstance(run["files_failed"], list) else run["files_failed"]),
        )
        for run in tools
    ]
    return table(("tool", "version", "files seen", "parsed", "failed"), rows)


def _share(part: int, whole: int) -> str:
    return f"{size(part)} ({part / whole:.1%})" if whole else size(part)
