"""Findings as SARIF 2.1.0, which code hosts and editors show beside the lines they are about."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cortex_pipelines import __version__
from cortex_pipelines.evidence import Severity

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

# The identifier of the schema, as the OASIS standard of 2.1.0 names it in section 3.13.3.
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
# What code hosts sort alerts of security by: the middle of the CVSS 3 band of that name (FIRST, CVSS v3.1, section 5).
SECURITY_SEVERITY = {Severity.CRITICAL: "9.5", Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "2.0"}
SECURITY = "security_concerns"
MOST_RESULTS = 5_000
"""What GitHub shows of a run, the worst first; it takes 25,000."""


def render_sarif(snapshot: "Snapshot", project: str) -> str:
    """The findings of the code analyses, a run for each repository, paths relative to the repository."""
    runs = []
    for row in sorted(snapshot.rows("code_analyses", ["repository", "commit"]), key=lambda row: row["repository"]):
        findings = snapshot.rows("code_findings", None, {"repository": row["repository"]})
        runs.append(_run(project, row["repository"], row["commit"], findings))
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": runs}, ensure_ascii=False, indent=1) + "\n"


def _run(project: str, repository: str, commit: str, findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    order = list(Severity)
    ranked = sorted(
        findings, key=lambda row: (order.index(Severity(row["severity"])), row["source"], row["line_start"])
    )
    shown = ranked[:MOST_RESULTS]
    worst: dict[str, Mapping[str, Any]] = {}
    for finding in shown:
        worst.setdefault(finding["rule"], finding)
    index = {rule: number for number, rule in enumerate(worst)}
    return {
        "tool": {
            "driver": {
                "name": "Cortex Pipelines",
                "version": __version__,
                "rules": [_rule(rule, finding) for rule, finding in worst.items()],
            }
        },
        "automationDetails": {"id": f"cortex/{quote(project)}/{quote(repository)}/"},
        "columnKind": "unicodeCodePoints",
        "properties": {"commit": commit, "findings": len(findings)},
        "results": [_result(repository, finding, index[finding["rule"]]) for finding in shown],
    }


def _rule(rule: str, worst: Mapping[str, Any]) -> dict[str, Any]:
    severity = Severity(worst["severity"])
    properties: dict[str, Any] = {"tags": [worst["section"]]}
    if worst["section"] == SECURITY:
        properties["tags"].append("security")
        if severity in SECURITY_SEVERITY:
            properties["security-severity"] = SECURITY_SEVERITY[severity]
    return {
        "id": rule,
        "shortDescription": {"text": worst["message"] or rule},
        "defaultConfiguration": {"level": LEVELS[severity]},
        "properties": properties,
    }


def _result(repository: str, finding: Mapping[str, Any], rule: int) -> dict[str, Any]:
    path = finding["source"] if repository == "." else finding["source"].removeprefix(f"{repository}/")
    return {
        "ruleId": finding["rule"],
        "ruleIndex": rule,
        "level": LEVELS[Severity(finding["severity"])],
        "message": {"text": finding["message"] or finding["rule"]},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(path)},
                    "region": {
                        "startLine": finding["line_start"],
                        "endLine": finding["line_end"],
                        "snippet": {"text": finding["quote"]},
                    },
                }
            }
        ],
        "partialFingerprints": {"cortexFinding/v1": finding["finding_id"]},
        "properties": {"section": finding["section"], "severity": finding["severity"]},
    }
