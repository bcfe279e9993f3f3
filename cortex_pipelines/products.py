"""Every product in the order it is built: from what, by which functions, guarded by which checks, shown how.

The `cortex` command and the Dagster assets are two shells over this one list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cortex_pipelines import reports
from cortex_pipelines.codebase.analyses import CODE_ANALYSES
from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.planning.compliance import build_compliance_report
from cortex_pipelines.planning.gaps import build_gap_report
from cortex_pipelines.planning.ideas import build_ideas
from cortex_pipelines.planning.roadmap import build_roadmap
from cortex_pipelines.reading.audits import DEEP_INGEST_AUDITS
from cortex_pipelines.retrieval.index import RAG_INDEX
from cortex_pipelines.stairs import Outcome, Stair, Work, climb

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

Build = Callable[[Work], Outcome]


@dataclass(frozen=True)
class Product:
    """A product of a project: `source` is a staircase or, for a cheap product of the whole project, a function.

    `checks` names each check and whether its failure is an error, which blocks what is downstream.
    """

    name: str
    source: Stair | Build
    render: Callable[["Snapshot", str], str]
    description: str
    group: str
    kinds: frozenset[str]
    deps: tuple[str, ...] = ()
    checks: Mapping[str, bool] = field(default_factory=dict)

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
        checks={"not_empty": False, "quarantine": False, "keys_unique": True},
    ),
    Product(
        "repositories",
        REPOSITORIES,
        reports.render_repositories,
        "Every file of every git repository at its head commit, read by plumbing only.",
        "ingest",
        frozenset({"git", "lancedb"}),
        checks={"keys_unique": True, "quarantine": False},
    ),
    Product(
        "rag_index",
        RAG_INDEX,
        reports.render_rag_index,
        "Chunks with exact places, vectors and full text: what `cortex search` and `cortex ask` answer from.",
        "retrieval",
        frozenset({"lancedb"}),
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
        deps=("repositories",),
        checks={"evidence_resolves": True},
    ),
    Product(
        "deep_ingest_audits",
        DEEP_INGEST_AUDITS,
        reports.render_deep_ingest_audits,
        "What is in inputs larger than any window, and how many of their bytes were read, skipped, and why.",
        "analysis",
        frozenset({"python"}),
        deps=("repositories",),
        checks={"evidence_resolves": True, "coverage_adds_up": True},
    ),
    Product(
        "gap_report",
        build_gap_report,
        reports.render_gap_report,
        "Every requirement of the specifications against what the code holds.",
        "planning",
        frozenset({"python"}),
        deps=("rag_index", "code_analyses"),
        checks={"covers_every_requirement": True, "evidence_resolves": True},
    ),
    Product(
        "compliance_report",
        build_compliance_report,
        reports.render_compliance_report,
        "Whether the specifications can be relied on: what is open, vague, contradictory or unsafe in them.",
        "planning",
        frozenset({"python"}),
        deps=("documents",),
        checks={"evidence_resolves": True, "no_blocking_findings": True},
    ),
    Product(
        "ideas",
        build_ideas,
        reports.render_ideas,
        "Ideas, tasks, decisions and code found in chat exports.",
        "planning",
        frozenset({"python"}),
        deps=("documents",),
        checks={"evidence_resolves": True},
    ),
    Product(
        "roadmap",
        build_roadmap,
        reports.render_roadmap,
        "What to do next and in which order: an acyclic graph traced to gaps, findings and ideas.",
        "planning",
        frozenset({"python"}),
        deps=("gap_report", "code_analyses", "deep_ingest_audits", "ideas"),
        checks={"acyclic": True, "evidence_resolves": True},
    ),
)


def build(product: Product, work: Work, on_batch: Callable[[int, int], None] = lambda done, of: None) -> Outcome:
    """Build one product in this process; `on_batch` hears how many batches are done, of how many."""
    if isinstance(product.source, Stair):
        return climb(product.source, work, on_batch)
    return product.source(work)


def write_report(product: Product, work: Work) -> tuple[Path, str]:
    """Write the product's report from what is published; the path of its Markdown, and the Markdown."""
    markdown = product.render(work.store.snapshot(), work.project)
    path = reports.write_report(work.settings.reports, work.project, product.name, markdown, product.title)
    return path, markdown
