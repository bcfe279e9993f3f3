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
