"""compliance_report: whether specifications can be relied on: what is open, vague, contradictory or unsafe in them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cortex_pipelines.evidence import Evidence, Finding, Severity
from cortex_pipelines.ingest.documents import Document
from cortex_pipelines.planning.products import Made, identifier, keep, resolved
from cortex_pipelines.planning.requirements import (
    NUMBER,
    PROHIBITION,
    Requirement,
    blocks,
    find_requirements,
    specifications,
    vague_terms,
)
from cortex_pipelines.retrieval.words import stems
from cortex_pipelines.stairs import Outcome, Verdict, Work

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

VERSION = "1"
INPUTS = ("documents", "files")
SECTION = "specification"
LISTED = 20

_OPEN = re.compile(
    r"\b(?:TB[DC]|TO-?DO|FIXME)\b|\?\?\?|(?i:\bto be (?:decided|defined|determined|confirmed|clarified)\b)"
)
# Two statements that share this much of their words are about the same thing.
ALIKE = 0.8

_SECRETS = r"(?:passwords?|passphrases?|credentials?|secrets?|api[- ]keys?|private keys?|(?:api |access )?tokens?)"
# What OWASP's Application Security Verification Standard 4.0 forbids, in the words that specifications use: transport
# (V9), secrets (V2.10, V6.4), logging (V7.1), passwords (V2.4), access (V4.1).
_WITHOUT = r"\b(?:disabl\w+|turn\w* off|skip\w*|ignor\w+|without|bypass\w*)\b"
_OPENLY = r"\b(?:plain ?text|clear ?text|unencrypted|unhashed|in the clear|base64|md5|sha-?1)\b"
_UNSAFE = {
    "unverified-tls": re.compile(rf"(?i){_WITHOUT}[^.;]{{0,40}}\b(?:tls|ssl|certificates?|https)\b"),
    "plain-secrets": re.compile(rf"(?i)\b{_SECRETS}\b[^.;]{{0,60}}{_OPENLY}|{_OPENLY}[^.;]{{0,40}}\b{_SECRETS}\b"),
    "logged-secrets": re.compile(
        rf"(?i)\b(?:logs?|logged|print\w*)\b[^.;]{{0,30}}\b{_SECRETS}\b"
        rf"|\b{_SECRETS}\b[^.;]{{0,40}}\b(?:logged|(?:in|to) (?:the )?logs?)\b"
    ),
    "hard-coded-secrets": re.compile(rf"(?i)\b(?:hard-?coded?|default|shared|built-in)\b[^.;]{{0,20}}\b{_SECRETS}\b"),
    "no-authentication": re.compile(
        rf"(?i)(?:{_WITHOUT}|\bno\b)[^.;]{{0,20}}\b(?:authenti\w+|authori[sz]ation|access control|login)\b"
    ),
}
_FORBIDS = re.compile(PROHIBITION.pattern + r"|\b(?:never|forbidden|prohibited|refuse[sd]?|reject(?:s|ed)?|denied)\b")


@dataclass(frozen=True)
class OpenPoint:
    """A place that says of itself that it is not decided."""

    text: str
    evidence: Evidence


def build_compliance_report(work: Work) -> Outcome:
    """Examine the specifications; a critical finding is published too, and fails the check that blocks."""
    return keep(work, "compliance_report", "compliance", VERSION, INPUTS, _make)


def _make(snapshot: "Snapshot") -> Made:
    documents = list(specifications(snapshot))
    requirements = find_requirements(documents)
    found = [*_open(documents), *_of_one(requirements), *_labels(requirements), *_contradictions(requirements)]
    held = resolved(snapshot, [finding.evidence for finding in found])
    kept = [finding for finding in found if finding.evidence in held]
    rows = {
        identifier(finding.rule, finding.evidence.source, finding.evidence.quote, finding.message): finding
        for finding in kept
    }
    blocking = [f"{f.evidence.location}: {f.message}" for f in rows.values() if f.severity is Severity.CRITICAL]
    counts = Counter(finding.severity for finding in rows.values())
    return Made(
        [
            {
                "finding_id": name,
                "rule": finding.rule,
                "severity": finding.severity.value,
                "message": finding.message,
                "source": finding.evidence.source,
                "line_start": finding.evidence.line_start,
                "line_end": finding.evidence.line_end,
                "quote": finding.evidence.quote,
                "version": VERSION,
            }
            for name, finding in rows.items()
        ],
        {
            "specifications": len(documents),
            "requirements": len(requirements),
            **{severity.value: counts[severity] for severity in Severity if counts[severity]},
        },
        {"evidence_resolves": Verdict(True, metadata={"dropped": len(found) - len(kept)})},
        {"no_blocking_findings": Verdict(not blocking, metadata={"findings": blocking[:LISTED]})},
    )


def find_open_points(documents: Iterable[Document]) -> Iterator[OpenPoint]:
    """Every block of a specification that says that something is still to be decided."""
    for document in documents:
        for block in blocks(document.text, document.headings):
            if _OPEN.search(block.text):
                yield OpenPoint(block.text, block.evidence(document.path))


def _open(documents: Sequence[Document]) -> Iterator[Finding]:
    for point in find_open_points(documents):
        yield Finding(SECTION, "open-point", Severity.MEDIUM, "It is not decided yet.", point.evidence)


def _of_one(requirements: Sequence[Requirement]) -> Iterator[Finding]:
    """What is wrong with a requirement by itself."""
    for requirement in requirements:
        statement = requirement.statement
        vague = vague_terms(statement)
        if vague and not requirement.acceptance:
            message = f"{requirement.label} cannot be verified: {', '.join(vague)}."
            yield Finding(SECTION, "vague", Severity.LOW, message, requirement.evidence)
        if not _FORBIDS.search(statement):
            for rule, pattern in _UNSAFE.items():
                if pattern.search(statement):
                    message = f"{requirement.label} asks for something unsafe ({rule.replace('-', ' ')})."
                    yield Finding(SECTION, rule, Severity.CRITICAL, message, requirement.evidence)


def _labels(requirements: Sequence[Requirement]) -> Iterator[Finding]:
    """Labels that two different requirements bear."""
    by_label: dict[str, list[Requirement]] = defaultdict(list)
    for requirement in requirements:
        if requirement.explicit:
            by_label[requirement.label].append(requirement)
    for label, bearers in by_label.items():
        for other in bearers[1:]:
            if other.statement != bearers[0].statement:
                message = f"{label} says something else in {bearers[0].evidence.location}."
                yield Finding(SECTION, "label-used-twice", Severity.HIGH, message, other.evidence)


def _contradictions(requirements: Sequence[Requirement]) -> Iterator[Finding]:
    """Pairs with the same words and other numbers; only those that share a rare word are compared."""
    bags = [frozenset(stems(NUMBER.sub(" ", requirement.statement), drop=True)) for requirement in requirements]
    numbers = [frozenset(NUMBER.findall(requirement.statement)) for requirement in requirements]
    by_word: dict[str, list[int]] = defaultdict(list)
    for index, bag in enumerate(bags):
        for word in bag if numbers[index] else ():
            by_word[word].append(index)
    for index, bag in enumerate(bags):
        rarest = min(
            (word for word in bag if word in by_word), key=lambda word: (len(by_word[word]), word), default=None
        )
        for other in by_word[rarest] if rarest and numbers[index] else ():
            if other >= index or numbers[other] == numbers[index]:
                continue
            if len(bag & bags[other]) >= ALIKE * len(bag | bags[other]):
                first = requirements[other]
                message = f"It contradicts {first.label} ({first.evidence.location}): the numbers differ."
                yield Finding(SECTION, "contradiction", Severity.HIGH, message, requirements[index].evidence)
