"""The `code_analyses` product: what each repository's code holds and what is wrong with it, with the lines."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from posixpath import dirname
from typing import TYPE_CHECKING, Any

from cortex_pipelines.codebase.findings import (
    IMPORT_CYCLE,
    cycle_finding,
    finding_rows,
    lint_findings,
    tree_findings,
)
from cortex_pipelines.codebase.imports import Resolver, import_cycles
from cortex_pipelines.codebase.linting import lint
from cortex_pipelines.codebase.metrics import metrics
from cortex_pipelines.codebase.reader import CodeReader
from cortex_pipelines.codebase.rules import Section
from cortex_pipelines.codebase.symbols import Code
from cortex_pipelines.evidence import Evidence, Finding, Severity, evidence_of, verify
from cortex_pipelines.ingest.languages import is_test, vendored_or_generated
from cortex_pipelines.stairs import Batch, Changes, Item, Outcome, Plan, Stair, Verdict, Work, compare, cut

if TYPE_CHECKING:
    import pyarrow as pa

    from cortex_pipelines.store import Publishing, Snapshot, Staging

    Reader = Snapshot | Publishing

PRODUCT = "code_analyses"
# Raise it when the same file would become other rows; the versions of the tools are added to it.
CODE_VERSION = "1"
# Markup, data and prose that tree-sitter reads too: nothing of what is looked for here is in them.
NOT_CODE = frozenset(
    {"css", "gomod", "gosum", "html", "ini", "json", "latex", "markdown", "meson", "po", "properties"}
    | {"requirements", "rst", "scss", "toml", "xml", "yaml"}
)
LISTED = 20
FAILED_LISTED = 1_000
MOST_CYCLES = 20
# Staged batches are merged together up to this: every merge is a version of its table.
ROWS_PER_MERGE = 50_000
SOURCES_PER_READ = 500

_TABLES = ("code_files", "symbols", "imports", "code_findings")
_UNKNOWN = "unknown"

Row = dict[str, Any]


@cache
def version() -> str:
    """What makes the rows: this code, the linter and the grammars."""
    tools = tool_versions()
    return f"{CODE_VERSION}+ruff-{tools['ruff']}+grammars-{tools['tree-sitter']}"


@cache
def tool_versions() -> dict[str, str]:
    """The versions of ruff and of the grammars."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    packages = {"tree-sitter": "tree-sitter-language-pack", "ruff": "ruff"}
    try:
        return {tool: installed(package) for tool, package in packages.items()}
    except PackageNotFoundError:
        return dict.fromkeys(packages, _UNKNOWN)


@dataclass
class _Writes:
    """What differs from what is stored: staged sources that are current, sources that are gone, and where."""

    fresh: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)
    touched: dict[str, str] = field(default_factory=dict)
    """The commit of each repository whose analysis is another now."""
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.fresh or self.gone or self.touched or self.removed)


@dataclass
class _Checked:
    """How many findings were verified, and how many did not resolve and were dropped."""

    kept: int = 0
    dropped: int = 0


def _plan(work: Work) -> Plan:
    snapshot = work.store.snapshot()
    changes = _changes(work, snapshot, {} if work.force else work.store.staging(PRODUCT).items())
    return Plan(
        cut(changes.todo),
        {
            "files_to_analyse": len(changes.todo),
            "files_already_analysed": changes.staged,
            "unchanged": changes.unchanged,
        },
    )


def _map(work: Work, batch: Batch) -> Mapping[str, int]:
    columns = ["source", "repository", "path", "digest", "language", "text"]
    wanted = {item.id: item.key for item in batch.items}
    rows = work.store.snapshot().rows("files", columns, {"source": list(wanted)})
    # A file that moved on since the plan is done by the next run.
    files = {
        row["source"]: row for row in rows if _key(row["digest"]) == wanted[row["source"]] and row["text"] is not None
    }
    with CodeReader() as reader:
        codes = {source: reader.read(row["text"], row["language"]) for source, row in files.items()}
    linted = lint(
        {source: files[source]["text"] for source, code in codes.items() if code.language == "python" and code.parsed}
    )
    findings: list[Finding] = []
    tables: dict[str, list[Row]] = {table: [] for table in _TABLES}
    for source, code in codes.items():
        row = files[source]
        findings += tree_findings(source, row["path"], row["text"], code)
        findings += lint_findings(source, row["path"], row["text"], linted.found.get(source, ()))
        unlinted = linted.failed.get(source, "" if source in linted.found else None)
        made = {"source": source, "repository": row["repository"], "digest": row["digest"], "version": version()}
        tables["code_files"].append(made | _file_row(code, unlinted))
        tables["symbols"] += (made | shown for shown in _symbol_rows(source, code))
        tables["imports"] += (made | shown for shown in _import_rows(source, code))
    tables["code_findings"] = finding_rows(
        findings,
        {source: row["repository"] for source, row in files.items()},
        {source: row["digest"] for source, row in files.items()},
        version(),
    )
    work.store.staging(PRODUCT).put(batch.name, tables, {source: wanted[source] for source in files})
    return {"files": len(files), "findings": len(findings), "findings_cut": linted.cut}


def _commit(work: Work, plan: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
    staging = work.store.staging(PRODUCT)
    names = staging.names()
    snapshot = work.store.snapshot()
    writes = _writes(work, snapshot, staging)
    checked = _Checked()
    if writes:
        with work.store.publishing() as publishing:
            # Another run may have published since: what is there now decides.
            writes = _writes(work, publishing, staging)
            _write(publishing, writes, staging, names, checked)
            verdict = _verdict(publishing, writes, checked)
            if not verdict.passed:
                return Outcome(_counted(publishing, counts, writes), None, {"evidence_resolves": verdict})
            publishing.publish()
        snapshot = work.store.snapshot()
    else:
        verdict = _verdict(snapshot, writes, checked)
    if names:
        staging.clear(names)
    return Outcome(
        _counted(snapshot, counts, writes),
        snapshot.versions(*_TABLES, PRODUCT),
        {"evidence_resolves": verdict},
        changed=bool(writes),
    )


CODE_ANALYSES = Stair(_plan, _map, _commit)


def _key(digest: str) -> str:
    return f"{digest}:{version()}"


def _current(reader: "Reader") -> Iterator[tuple[Item, str]]:
    """Every file of code that its own project wrote, and its repository."""
    columns = ["source", "repository", "path", "digest", "size", "language", "skipped"]
    for row in reader.rows("files", columns):
        if (
            row["skipped"] is None
            and row["language"] is not None
            and row["language"] not in NOT_CODE
            and vendored_or_generated(row["path"]) is None
        ):
            yield Item(row["source"], _key(row["digest"]), row["size"]), row["repository"]


def _changes(work: Work, reader: "Reader", staged: Mapping[str, Container[str]]) -> Changes:
    items = sorted((item for item, _ in _current(reader)), key=lambda item: item.id)
    return compare(items, {} if work.force else reader.keys("code_files"), staged)


def _writes(work: Work, reader: "Reader", staging: "Staging") -> _Writes:
    current = {item.id: (item.key, repository) for item, repository in _current(reader)}
    stored = {row["source"]: row["repository"] for row in reader.rows("code_files", ["source", "repository"])}
    commits = {row["path"]: row["commit"] for row in reader.rows("repositories", ["path", "commit"])}
    analysed = {
        row["repository"]: (row["commit"], row["version"])
        for row in reader.rows(PRODUCT, ["repository", "commit", "version"])
    }
    fresh = {source for source, keys in staging.items().items() if source in current and current[source][0] in keys}
    gone = [source for source in stored if source not in current]
    moved = {repository for repository, commit in commits.items() if analysed.get(repository) != (commit, version())}
    moved |= {current[source][1] for source in fresh} | {stored[source] for source in gone}
    return _Writes(
        fresh,
        gone,
        {repository: commits[repository] for repository in sorted(moved & commits.keys())},
        [repository for repository in analysed if repository not in commits],
    )


def _write(
    publishing: "Publishing", writes: _Writes, staging: "Staging", names: Sequence[str], checked: _Checked
) -> None:
    for table in _TABLES:
        publishing.delete(table, "source", writes.gone)
    publishing.delete(PRODUCT, "repository", writes.removed)
    for sources, tables in _staged(staging, names, writes.fresh):
        for table in _TABLES:
            publishing.replace(table, "source", sources, tables[table])
    for repository, commit in writes.touched.items():
        links = _link(publishing, repository)
        checked_here = _drop_unresolved(publishing, repository)
        checked.kept += checked_here.kept
        checked.dropped += checked_here.dropped
        publishing.upsert(PRODUCT, [_summary_row(publishing, repository, commit, links, checked_here)])


def _staged(
    staging: "Staging", names: Sequence[str], fresh: set[str]
) -> "Iterator[tuple[list[str], dict[str, pa.Table]]]":
    """What is staged and still current, several batches at once; a source that two batches hold counts once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    left = set(fresh)
    sources: list[str] = []
    parts: dict[str, list[pa.Table]] = defaultdict(list)
    rows = 0
    for items, tables in staging.tables(names):
        taken = [source for source in items if source in left]
        left.difference_update(taken)
        sources += taken
        for table in _TABLES:
            parts[table].append(tables[table].filter(pc.field("source").isin(taken)))
            rows += parts[table][-1].num_rows
        if rows >= ROWS_PER_MERGE:
            yield sources, {table: pa.concat_tables(parts[table]) for table in _TABLES}
            sources, parts, rows = [], defaultdict(list), 0
    if sources:
        yield sources, {table: pa.concat_tables(parts[table]) for table in _TABLES}


@dataclass(frozen=True)
class _Links:
    """Which file imports which: resolved edges, how often a file is imported by code that is no test, circles."""

    resolved: int
    imports: int
    imported: Counter[str]
    cycles: list[list[str]]


def _link(publishing: "Publishing", repository: str) -> _Links:
    """Resolve the imports of a repository among its files, and find those that go in a circle."""
    where = {"repository": repository}
    files = {row["source"]: row["path"] for row in publishing.rows("files", ["source", "path"], where)}
    sources = {path: source for source, path in files.items()}
    code = {
        row["source"]: (row["language"], frozenset(json.loads(row["metrics"])["deferred_imports"]), row["digest"])
        for row in publishing.rows("code_files", ["source", "language", "metrics", "digest"], where)
    }
    resolver = Resolver(sources, _go_modules(publishing, files))
    rows = publishing.rows("imports", where=where)
    stale: list[Row] = []
    lines: dict[tuple[str, str], int] = {}
    imported: Counter[str] = Counter()
    for row in rows:
        language, deferred, _ = code[row["source"]]
        found = resolver.resolve(files[row["source"]], language, row["target"])
        resolved = None if found is None else sources[found]
        if resolved != row["resolved"]:
            stale.append(row | {"resolved": resolved})
        if resolved is not None and resolved != row["source"]:
            if not is_test(files[row["source"]]):
                imported[resolved] += 1
            if row["line"] not in deferred:
                lines.setdefault((row["source"], resolved), row["line"])
    publishing.upsert("imports", stale)
    cycles = import_cycles(lines, MOST_CYCLES)
    _write_cycles(publishing, repository, cycles, lines, {source: digest for source, (_, _, digest) in code.items()})
    return _Links(sum(imported.values()), len(rows), imported, cycles)


def _go_modules(publishing: "Publishing", files: Mapping[str, str]) -> dict[str, str]:
    """The folder of each `go.mod` and the module it declares."""
    manifests = [source for source, path in files.items() if f"/{path}".endswith("/go.mod")]
    modules = {}
    for source, text in publishing.texts(manifests).items() if manifests else ():
        declared = next((line.split() for line in text.split("\n") if line.startswith("module ")), [])
        if len(declared) > 1:
            modules[dirname(files[source])] = declared[1].strip('"')
    return modules


def _write_cycles(
    publishing: "Publishing",
    repository: str,
    cycles: Sequence[Sequence[str]],
    lines: Mapping[tuple[str, str], int],
    digests: Mapping[str, str],
) -> None:
    """Let the findings of circles be those of now."""
    texts = publishing.texts([cycle[0] for cycle in cycles]) if cycles else {}
    findings = [
        cycle_finding(cycle, cycle[0], lines[cycle[0], cycle[1]], texts[cycle[0]])
        for cycle in cycles
        if cycle[0] in texts
    ]
    made = [finding for finding in findings if finding is not None]
    rows = finding_rows(made, {finding.evidence.source: repository for finding in made}, digests, version())
    known = publishing.rows("code_findings", where={"repository": repository, "rule": IMPORT_CYCLE})
    there = {row["finding_id"]: row for row in known}
    publishing.delete("code_findings", "finding_id", there.keys() - {str(row["finding_id"]) for row in rows})
    publishing.upsert("code_findings", [row for row in rows if there.get(str(row["finding_id"])) != row])


def _drop_unresolved(publishing: "Publishing", repository: str) -> _Checked:
    """Delete each finding of a repository whose quote does not stand in its lines."""
    columns = ["finding_id", "source", "line_start", "line_end", "quote"]
    rows = publishing.rows("code_findings", columns, {"repository": repository})
    claims = {row["finding_id"]: evidence_of(row) for row in rows}
    kept = set(_resolving(publishing, claims.values()))
    lost = [name for name, claim in claims.items() if claim not in kept]
    publishing.delete("code_findings", "finding_id", lost)
    return _Checked(len(claims) - len(lost), len(lost))


def _resolving(reader: "Reader", claims: Iterable[Evidence]) -> Iterator[Evidence]:
    by_source: dict[str, list[Evidence]] = defaultdict(list)
    for claim in claims:
        by_source[claim.source].append(claim)
    sources = sorted(by_source)
    for start in range(0, len(sources), SOURCES_PER_READ):
        part = sources[start : start + SOURCES_PER_READ]
        yield from verify([claim for source in part for claim in by_source[source]], reader.texts).kept


def _verdict(reader: "Reader", writes: _Writes, checked: _Checked) -> Verdict:
    """Whether there are exactly the findings that were verified, in each repository that is another now."""
    there = sum(reader.count("code_findings", {"repository": repository}) for repository in writes.touched)
    return Verdict(there == checked.kept, metadata={"verified": checked.kept, "dropped": checked.dropped})


def _summary_row(publishing: "Publishing", repository: str, commit: str, links: _Links, checked: _Checked) -> Row:
    """The row of a repository, computed from its rows as they are stored."""
    where = {"repository": repository}
    files = publishing.rows("code_files", where=where)
    for row in files:
        row["metrics"] = json.loads(row["metrics"])
    changes = {row["source"]: row["changes"] for row in publishing.rows("files", ["source", "changes"], where)}
    heat = {row["source"]: changes.get(row["source"], 0) * row["metrics"]["complexity"] for row in files}
    columns = ["finding_id", "section", "severity", "rule", "source", "line_start"]
    findings = publishing.rows("code_findings", columns, where)
    findings.sort(
        key=lambda row: (Severity(row["severity"]).rank, -heat.get(row["source"], 0), row["source"], row["line_start"])
    )
    hottest = sorted(
        (row for row in files if heat[row["source"]]), key=lambda row: (-heat[row["source"]], row["source"])
    )
    summary = {
        "files": len(files),
        "languages": _languages(files),
        "symbols": publishing.count("symbols", where),
        "imports": {"seen": links.imports, "within_the_repository": links.resolved},
        "findings": {
            section: dict(Counter(row["severity"] for row in findings if row["section"] == section))
            for section in Section
        },
        "rules": dict(Counter(row["rule"] for row in findings).most_common()),
        "top_findings": [row["finding_id"] for row in findings[:LISTED]],
        "dropped_findings": checked.dropped,
        "hot_spots": [
            {
                "source": row["source"],
                "changes": changes[row["source"]],
                "complexity": row["metrics"]["complexity"],
                "score": heat[row["source"]],
            }
            for row in hottest[:LISTED]
        ],
        "most_imported": [{"source": source, "imports": count} for source, count in links.imported.most_common(LISTED)],
        "import_cycles": links.cycles,
    }
    return {
        "repository": repository,
        "commit": commit,
        "version": version(),
        "summary": json.dumps(summary, ensure_ascii=False),
        "tools": json.dumps(_tool_runs(files), ensure_ascii=False),
    }


def _languages(files: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Files, lines of code and lines that were not understood, by language."""
    languages: dict[str, Counter[str]] = defaultdict(Counter)
    for row in files:
        languages[row["language"]].update(
            files=1, code_lines=row["metrics"]["code_lines"], error_lines=row["error_lines"], unparsed=not row["parsed"]
        )
    return {language: dict(counts) for language, counts in sorted(languages.items())}


def _tool_runs(files: Sequence[Row]) -> list[Row]:
    """What each tool saw, read and failed to read: "nothing found" holds for what was read."""
    parsed = {row["source"]: row["metrics"]["left_out"] for row in files}
    linted = {row["source"]: row["metrics"]["lint"] for row in files if row["metrics"]["lint"] is not None}
    versions = tool_versions()
    runs = []
    for tool, results in (("tree-sitter", parsed), ("ruff", linted)):
        failed = [{"source": source, "reason": reason} for source, reason in sorted(results.items()) if reason]
        runs.append(
            {
                "tool": tool,
                "version": versions[tool],
                "files_seen": len(results),
                "files_parsed": len(results) - len(failed),
                "files_failed": failed[:FAILED_LISTED],
            }
        )
    return runs


def _counted(reader: "Reader", counts: Sequence[Mapping[str, int]], writes: _Writes) -> dict[str, Any]:
    return {
        "repositories": reader.count(PRODUCT),
        "files": reader.count("code_files"),
        "analysed": sum(count["files"] for count in counts),
        "gone": len(writes.gone),
        "symbols": reader.count("symbols"),
        "findings": reader.count("code_findings"),
    }


def _file_row(code: Code, unlinted: str | None) -> Row:
    return {
        "language": code.language,
        "parsed": code.parsed,
        "error_lines": code.error_lines,
        "metrics": json.dumps(metrics(code, unlinted)),
    }


def _symbol_rows(source: str, code: Code) -> Iterator[Row]:
    seen: Counter[str] = Counter()
    for symbol in code.symbols:
        name = _name(source, symbol.qualified, seen)
        yield {"symbol_id": name, **symbol._asdict()}


def _import_rows(source: str, code: Code) -> Iterator[Row]:
    seen: Counter[str] = Counter()
    for found in code.imports:
        name = _name(source, found.target, seen)
        yield {"import_id": name, "target": found.target, "line": found.line, "resolved": None}


def _name(source: str, what: str, seen: Counter[str]) -> str:
    """An identifier that does not depend on the line: the n-th of its name in its file."""
    seen[what] += 1
    return hashlib.blake2b(f"{source}\0{what}\0{seen[what]}".encode(), digest_size=12).hexdigest()
