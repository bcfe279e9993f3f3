"""Findings of the four sections, each with the line that shows it: from the linter, the tree and the imports."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cortex_pipelines.codebase.linting import Lint
from cortex_pipelines.codebase.rules import TREE_RULES, is_test_noise, ruff_rule
from cortex_pipelines.codebase.symbols import Code
from cortex_pipelines.evidence import Evidence, Finding
from cortex_pipelines.ingest.languages import is_test

# Lines of one function. Code Complete (7.4) finds no gain from routines under 200 lines and a loss above; half of
# that asks to be looked at.
LONG_FUNCTION = 100
# Nested blocks in one function: the Linux kernel's coding style asks to fix a program that needs more than 3.
DEEP_NESTING = 5
# Cyclomatic complexity of one function: McCabe's own limit (A Complexity Measure, 1976).
COMPLEX_FUNCTION = 10
# Lines of code of one file.
LARGE_FILE = 1_500
# A quote is for people: the line, cut.
QUOTE_CHARACTERS = 300
MESSAGE_CHARACTERS = 300
# Findings of one kind in one file beyond this say nothing new of it.
NOTES_PER_FILE = 20
NAMES_SHOWN = 8

# The one rule that looks at more than one file.
IMPORT_CYCLE = "import-cycle"

# Ruff counts these itself for Python.
_COUNTED_BY_RUFF = frozenset({"python"})
# Passwords: reports must not spread them.
_SECRETS = frozenset({"S105", "S106", "S107"})


def lint_findings(source: str, path: str, text: str, lints: Iterable[Lint]) -> Iterator[Finding]:
    """What the linter found in a file, without what is normal in a test; `path` is the file's in its repository."""
    lines = text.split("\n")
    in_test = is_test(path)
    for told in lints:
        rule = ruff_rule(told.code)
        if rule is None or (in_test and is_test_noise(told.code)):
            continue
        secret = told.column - 1 if told.code in _SECRETS else None
        if evidence := _evidence(source, lines, told.line_start, told.line_end, secret):
            yield Finding(rule.section, told.code, rule.severity, told.message[:MESSAGE_CHARACTERS], evidence)


def tree_findings(source: str, path: str, text: str, code: Code) -> Iterator[Finding]:
    """What the shape of a file says, in any language whose functions are known."""
    lines = text.split("\n")
    in_test = is_test(path)

    def finding(rule: str, line: int, last: int, **told: object) -> Iterator[Finding]:
        if evidence := _evidence(source, lines, line, last):
            placed = TREE_RULES[rule]
            message = placed.message.format(**told)[:MESSAGE_CHARACTERS]
            yield Finding(placed.section, rule, placed.severity, message, evidence)

    for function in code.functions if not in_test else ():
        at = (function.line_start, function.line_end)
        if function.lines > LONG_FUNCTION:
            yield from finding("long-function", *at, name=function.qualified, count=function.lines)
        if function.nesting > DEEP_NESTING:
            yield from finding("deep-nesting", *at, name=function.qualified, count=function.nesting)
        if function.complexity > COMPLEX_FUNCTION and code.language not in _COUNTED_BY_RUFF:
            yield from finding("complex-function", *at, name=function.qualified, count=function.complexity)
    if code.code_lines > LARGE_FILE and not in_test:
        first = next((number for number, line in enumerate(lines, 1) if line.strip()), 1)
        yield from finding("large-file", first, first, count=f"{code.code_lines:,}")
    for mark in code.duplicates:
        yield from finding("duplicate-definition", mark.line, mark.line, name=mark.name)
    for mark in code.hits if not in_test else ():
        yield from finding(mark.kind, mark.line, mark.line)
    for mark in code.notes[:NOTES_PER_FILE]:
        yield from finding("note", mark.line, mark.line, name=mark.kind)


def cycle_finding(cycle: Sequence[str], source: str, line: int, text: str) -> Finding | None:
    """A circle of imports as a finding at the import in `source`, its first file, that leads into it."""
    evidence = _evidence(source, text.split("\n"), line, line)
    if evidence is None:
        return None
    shown = [
        *cycle[:NAMES_SHOWN],
        *([f"{len(cycle) - NAMES_SHOWN} more"] if len(cycle) > NAMES_SHOWN else []),
        cycle[0],
    ]
    rule = TREE_RULES[IMPORT_CYCLE]
    message = rule.message.format(name=" → ".join(shown))[:MESSAGE_CHARACTERS]
    return Finding(rule.section, IMPORT_CYCLE, rule.severity, message, evidence)


def finding_rows(
    findings: Iterable[Finding], repositories: Mapping[str, str], digests: Mapping[str, str], version: str
) -> list[dict[str, object]]:
    """Rows of `code_findings`; the repository and the digest are looked up by source.

    An identifier depends on rule, source and quote, not on the line: it outlives what is inserted above.
    """
    seen: Counter[tuple[str, str, str]] = Counter()
    rows = []
    for finding in findings:
        evidence = finding.evidence
        same = (evidence.source, finding.rule, evidence.quote)
        name = "\0".join((*same, str(seen[same])))
        seen[same] += 1
        rows.append(
            {
                "finding_id": hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
                "repository": repositories[evidence.source],
                "section": str(finding.section),
                "rule": finding.rule,
                "severity": str(finding.severity),
                "message": finding.message,
                "source": evidence.source,
                "line_start": evidence.line_start,
                "line_end": evidence.line_end,
                "quote": evidence.quote,
                "digest": digests[evidence.source],
                "version": version,
            }
        )
    return rows


def _evidence(source: str, lines: Sequence[str], first: int, last: int, secret: int | None = None) -> Evidence | None:
    """The first line of a span as evidence; None when there is nothing to quote.

    Where the line holds a `secret` at or behind a column (0-based), it is quoted up to the secret's opening quote.
    """
    if not 1 <= first <= len(lines):
        return None
    quote = lines[first - 1]
    if secret is not None:
        opening = next((at for at in range(secret, len(quote)) if quote[at] in "\"'"), secret)
        quote = quote[:opening] if quote[:opening].strip() else quote[: opening + 1]
    quote = quote.strip()[:QUOTE_CHARACTERS]
    return Evidence(source, first, max(first, min(last, len(lines))), quote) if quote else None
