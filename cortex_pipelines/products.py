"""Every product in the order it is built: from what, by which functions, guarded by which checks, shown how.

The `cortex` command and the Dagster assets are two shells over this one list.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cortex_pipelines import reports
from cortex_pipelines.codebase.analyses import CODE_ANALYSES
from cortex_pipelines.errors import CortexError
from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.ingest.scan import project_sources
from cortex_pipelines.names import Lane
from cortex_pipelines.planning import compliance, gaps, ideas, overview, roadmap
from cortex_pipelines.reading.audits import DEEP_INGEST_AUDITS
from cortex_pipelines.retrieval.index import RAG_INDEX
from cortex_pipelines.settings import VARIABLES
from cortex_pipelines.stairs import Outcome, Plan, Stair, Work, climb
from cortex_pipelines.standing import Standing, code_stamp

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

# The settings that decide how what landed is read.
READING = (
    "CORTEX_DEEP_INGEST_BYTES",
    "CORTEX_MASK_SECRETS",
    *(n for n in VARIABLES if n.startswith("CORTEX_ARCHIVE_")),
)

Build = Callable[[Work], Outcome]


@dataclass(frozen=True)
class Product:
    """A product of a project: `source` is a staircase or, for a cheap product of the whole project, a function.

    It is made from the tables it `reads` and, if it `scans`, from what lies in the project's folder; where there is a
    `lane`, that adds to it. `checks` names each check and whether its failure is an error, which blocks what is
    downstream.
    """

    name: str
    source: Stair | Build
    render: Callable[["Snapshot", str], str]
    description: str
    group: str
    kinds: frozenset[str]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    scans: bool = False
    deps: tuple[str, ...] = ()
    lane: Lane | None = None
    checks: Mapping[str, bool] = field(default_factory=dict)
    beside: Mapping[str, Callable[["Snapshot", str], str]] = field(default_factory=dict)
    """Other forms of its report, by the ending of their files."""

    @property
    def title(self) -> str:
        """The name as people write it."""
        return self.name.replace("_", " ").capitalize().replace("Rag", "RAG")


PRODUCTS: tuple[Product, ...] = (
    Product(
        "documents",
        DOCUMENTS,
        reports.render_documents,
        "Parsed text of everything dropped that is no repository, with its structure, and what could not be read.",
        "ingest",
        frozenset({"lancedb"}),
        (),
        ("landed", "holders", "documents", "sketches", "messages", "secrets", "quarantine"),
        scans=True,
        checks={"not_empty": False, "quarantine": False, "keys_unique": True},
    ),
    Product(
        "repositories",
        REPOSITORIES,
        reports.render_repositories,
        "Every file of every git repository at its head commit, read by plumbing only.",
        "ingest",
        frozenset({"git", "lancedb"}),
        (),
        ("repositories", "files", "secrets", "quarantine"),
        scans=True,
        checks={"keys_unique": True, "quarantine": False},
    ),
    Product(
        "rag_index",
        RAG_INDEX,
        reports.render_rag_index,
        "Chunks with exact places, vectors and full text: what `cortex search` and `cortex ask` answer from.",
        "retrieval",
        frozenset({"lancedb"}),
        ("documents", "files"),
        ("chunks", "indexed"),
        deps=("documents", "repositories"),
        checks={"row_count_equals_chunks": True, "keys_unique": True, "no_orphans": True},
    ),
    Product(
        "code_analyses",
        CODE_ANALYSES,
        reports.render_code_analyses,
        "Symbols, imports and findings of each repository, in four sections, each finding with its line.",
        "analysis",
        frozenset({"treesitter", "ruff"}),
        ("repositories", "files"),
        ("code_files", "symbols", "imports", "code_findings", "code_analyses"),
        deps=("repositories",),
        checks={"evidence_resolves": True},
        beside={"sarif": reports.render_sarif},
    ),
    Product(
        "deep_ingest_audits",
        DEEP_INGEST_AUDITS,
        reports.render_deep_ingest_audits,
        "What is in inputs larger than any window, and how many of their bytes were read, skipped, and why.",
        "analysis",
        frozenset({"python"}),
        ("documents", "repositories", "files"),
        ("audits", "audit_findings"),
        scans=True,
        deps=("repositories",),
        checks={"evidence_resolves": True, "coverage_adds_up": True},
    ),
    Product(
        "gap_report",
        gaps.build_gap_report,
        reports.render_gap_report,
        "Every requirement of the specifications against what the code holds.",
        "planning",
        frozenset({"python"}),
        gaps.INPUTS,
        ("gaps",),
        deps=("rag_index", "code_analyses"),
        checks={"covers_every_requirement": True, "evidence_resolves": True},
    ),
    Product(
        "compliance_report",
        compliance.build_compliance_report,
        reports.render_compliance_report,
        "Whether the specifications can be relied on: what is open, vague, contradictory or unsafe in them.",
        "planning",
        frozenset({"python"}),
        compliance.INPUTS,
        ("compliance",),
        deps=("documents",),
        checks={"evidence_resolves": True, "no_blocking_findings": True},
    ),
    Product(
        "ideas",
        ideas.build_ideas,
        reports.render_ideas,
        "Ideas, tasks, decisions and code found in chat exports.",
        "planning",
        frozenset({"python"}),
        ideas.INPUTS,
        ("ideas",),
        deps=("documents",),
        checks={"evidence_resolves": True},
    ),
    Product(
        "roadmap",
        roadmap.build_roadmap,
        reports.render_roadmap,
        "What to do next and in which order: an acyclic graph traced to gaps, findings and ideas.",
        "planning",
        frozenset({"python"}),
        roadmap.INPUTS,
        ("roadmap", "overviews"),
        deps=("gap_report", "code_analyses", "deep_ingest_audits", "ideas"),
        lane=overview.LANE,
        checks={"acyclic": True, "evidence_resolves": True},
    ),
)


class UnknownProduct(CortexError):
    """There is no product of that name."""


def selected(names: Sequence[str]) -> tuple[Product, ...]:
    """The products of these names and all that they are made from, in their order; every product for no names."""
    known = {product.name: product for product in PRODUCTS}
    wanted: set[str] = set()
    left = list(names or known)
    while left:
        name = left.pop()
        if name not in known:
            raise UnknownProduct(f"there is no product {name}: choose of {', '.join(known)}")
        if name not in wanted:
            wanted.add(name)
            left += known[name].deps
    return tuple(product for product in PRODUCTS if product.name in wanted)


def build(product: Product, work: Work, on_batch: Callable[[int, int], None] = lambda done, of: None) -> Outcome:
    """Build one product in this process; `on_batch` hears how many batches are done, of how many."""
    if isinstance(product.source, Stair):
        return climb(stair_of(product), work, on_batch)
    before = _before(product, work)
    return _standing(product, work, before) or _remember(product, work, before, product.source(work))


def stair_of(product: Product) -> Stair:
    """The staircase of a product, which is not climbed where what the last run told still stands."""
    stair = product.source
    assert isinstance(stair, Stair)

    def plan(work: Work) -> Plan:
        before = _before(product, work)
        planned = Plan(()) if _standing(product, work, before) else stair.plan(work)
        return Plan(planned.batches, {**planned.summary, "before": before})

    def commit(work: Work, planned: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
        before = planned.summary["before"]
        return _standing(product, work, before) or _remember(product, work, before, stair.commit(work, planned, counts))

    return Stair(plan, stair.map, commit)


def write_report(product: Product, work: Work, outcome: Outcome) -> tuple[Path, str]:
    """Write the product's report from what is published; the path of its Markdown, and the Markdown."""
    path = work.settings.reports / work.project / f"{product.name}.md"
    if outcome.standing and all(path.with_suffix(f".{ending}").is_file() for ending in ("md", *product.beside)):
        return path, path.read_text(encoding="utf-8")
    snapshot = work.store.snapshot()
    markdown = product.render(snapshot, work.project)
    beside = {ending: render(snapshot, work.project) for ending, render in product.beside.items()}
    folder = work.settings.reports
    return reports.write_report(folder, work.project, product.name, markdown, product.title, beside), markdown


def quarantined(work: Work) -> list[tuple[str, str]]:
    """Every path that was not read, and why."""
    snapshot, known = work.store.snapshot(), _told(work)
    key = f"{code_stamp()} {snapshot.versions('quarantine')}"
    rows = known.get("quarantine", key)
    if rows is None:
        rows = sorted([row["path"], row["reason"]] for row in snapshot.rows("quarantine", ["path", "reason"]))
        known.put("quarantine", key, rows)
    return [(path, reason) for path, reason in rows]


def _told(work: Work) -> Standing:
    return Standing(work.settings.state / work.project)


def _before(product: Product, work: Work) -> str:
    """What a product is made from, as it is now: code, settings, tables, and the folder where it is scanned."""
    digest = hashlib.blake2b(digest_size=16)
    parts = [code_stamp(), work.store.snapshot().versions(*product.reads)]
    parts += [work.settings.value(name) for name in READING if product.scans]
    parts.append(work.served_by(product.lane))
    if product.scans:
        parts.append(project_sources(work).fingerprint)
    digest.update(repr(parts).encode())
    return digest.hexdigest()


def _after(product: Product, work: Work, before: str) -> str:
    return f"{before} {work.store.snapshot().versions(*product.writes)}"


def _standing(product: Product, work: Work, before: str) -> Outcome | None:
    """What the last run told, where neither what the product is made from nor the product itself has moved."""
    if work.force or (isinstance(product.source, Stair) and work.store.staging(product.name).names()):
        return None
    told = _told(work).get(product.name, _after(product, work, before))
    return None if told is None else Outcome.of(told, standing=True)


def _remember(product: Product, work: Work, before: str, outcome: Outcome) -> Outcome:
    if not outcome.failed and not outcome.provisional:
        _told(work).put(product.name, _after(product, work, before), outcome.told())
    return outcome
