"""Vectors and words fused into one ranking."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from cortex_pipelines.ingest.near import fold
from cortex_pipelines.retrieval.embedding import Embedder, StaticEmbedder

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

# The weight of static vectors against BM25, both scaled to 0..1 per query: measured on SciFact, Cranfield and CoSQA.
ALPHA = 0.3
CANDIDATES = 50
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that fits a query; `score` is between 0 and 1 and only orders hits of one query."""

    source: str
    line_start: int
    line_end: int
    page: int | None
    section: str
    title: str
    text: str
    score: float
    also: tuple[str, ...] = ()
    """Where the same, or nearly the same document lies too."""

    @property
    def location(self) -> str:
        """`file:line`, or `file, page n`."""
        return f"{self.source}, page {self.page}" if self.page is not None else f"{self.source}:{self.line_start}"


@cache
def embedder() -> Embedder:
    """The embedder, loaded once."""
    return StaticEmbedder()


def search(snapshot: "Snapshot", query: str, limit: int = 10, where: Mapping[str, str] | None = None) -> list[Hit]:
    """The passages that fit a query best, the best first."""
    if not query.strip():
        return []
    words = snapshot.search_text("chunks", search_words(query), CANDIDATES, where)
    vector = embedder().embed([query])[0]
    near = snapshot.search_vector("chunks", vector, CANDIDATES, where)
    lexical = _scaled({row["chunk_id"]: row["_score"] for row in words})
    dense = _scaled({row["chunk_id"]: 1 - row["_distance"] for row in near})
    rows = {row["chunk_id"]: row for row in [*words, *near]}
    scores = {chunk: ALPHA * dense.get(chunk, 0.0) + (1 - ALPHA) * lexical.get(chunk, 0.0) for chunk in rows}
    ordered = sorted(rows, key=lambda chunk: (-scores[chunk], rows[chunk]["source"], rows[chunk]["line_start"]))
    hits = [_hit(rows[chunk], scores[chunk]) for chunk in ordered]
    return _once(snapshot, hits, limit)


def _once(snapshot: "Snapshot", hits: list[Hit], limit: int) -> list[Hit]:
    """The first `limit` hits, of documents that are nearly the same only those of the best one."""
    sources = list(dict.fromkeys(hit.source for hit in hits))
    labels = {row["path"]: row["near"] for row in snapshot.rows("sketches", ["path", "near"], {"path": sources})}
    folded = fold(labels, sources)
    found = [hit for hit in hits if hit.source not in folded][:limit]
    also: dict[str, list[str]] = defaultdict(list)
    for other, source in folded.items():
        also[source].append(other)
    shown = {"document": list({hit.source for hit in found})}
    for row in snapshot.rows("holders", ["path", "document"], shown):
        if row["path"] != row["document"]:
            also[row["document"]].append(row["path"])
    return [replace(hit, also=tuple(sorted(also[hit.source]))) if also[hit.source] else hit for hit in found]


def search_words(text: str) -> str:
    """A text and the parts of its identifiers, as the full-text index holds them."""
    parts = [
        part.lower()
        for name in IDENTIFIER.findall(text)
        for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
        if part.lower() != name.lower()
    ]
    return f"{text} {' '.join(parts)}" if parts else text


def _scaled(scores: dict[str, float]) -> dict[str, float]:
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    return {key: (value - low) / (high - low) if high > low else 1.0 for key, value in scores.items()}


def _hit(row: dict[str, Any], score: float) -> Hit:
    return Hit(
        row["source"],
        row["line_start"],
        row["line_end"],
        row["page"],
        row["section"],
        row["title"],
        row["text"],
        score,
    )
