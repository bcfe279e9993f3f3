"""Evidence, Finding, Severity: the currency of every report, and the verification of quotes."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters, the worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a claim comes from.

    `source` is a path relative to the project's folder (a file of a repository is `<repository>/<path>`),
    `line_start` and `line_end` are 1-based and inclusive lines of the source's text, `quote` is the exact
    text of those lines or a part of it, `page` is 1-based and only known for paged documents.
    """

    source: str
    line_start: int
    line_end: int
    quote: str
    page: int | None = None

    @property
    def location(self) -> str:
        """`file:line`, or `file, page n` for a paged document."""
        if self.page is not None:
            return f"{self.source}, page {self.page}"
        return f"{self.source}:{self.line_start}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a report says of one place."""

    section: str
    rule: str
    severity: Severity
    message: str
    evidence: Evidence


@dataclass(frozen=True)
class Verified:
    """What held and what did not when claims were checked against their sources."""

    kept: tuple[Evidence, ...]
    dropped: tuple[Evidence, ...]


def resolves(evidence: Evidence, text: str | None) -> bool:
    """Whether the quote stands in the lines that the evidence names."""
    if text is None or not evidence.quote or evidence.line_start < 1 or evidence.line_end < evidence.line_start:
        return False
    lines = text.split("\n")
    return evidence.quote in "\n".join(lines[evidence.line_start - 1 : evidence.line_end])


def verify(claims: Iterable[Evidence], texts: Callable[[Sequence[str]], Mapping[str, str]]) -> Verified:
    """Check each claim against the text of its source; `texts` reads many sources at once."""
    listed = list(claims)
    known = texts(sorted({claim.source for claim in listed}))
    held = [resolves(claim, known.get(claim.source)) for claim in listed]
    return Verified(
        tuple(claim for claim, ok in zip(listed, held, strict=True) if ok),
        tuple(claim for claim, ok in zip(listed, held, strict=True) if not ok),
    )


def evidence_of(row: Mapping[str, Any]) -> Evidence:
    """The evidence of a table's row, whose columns are called as the parts of evidence are."""
    return Evidence(row["source"], row["line_start"], row["line_end"], row["quote"])


def dump(evidence: Iterable[Evidence]) -> str:
    """Evidence as the JSON that a table's column holds."""
    return json.dumps([asdict(item) for item in evidence], ensure_ascii=False)


def load(column: str) -> tuple[Evidence, ...]:
    """The inverse of `dump`."""
    return tuple(Evidence(**item) for item in json.loads(column))
