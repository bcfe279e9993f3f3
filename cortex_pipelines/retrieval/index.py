"""rag_index: every document and every file of text in a repository, chunked and embedded."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cortex_pipelines.ingest.documents import Document
from cortex_pipelines.ingest.formats.markup import markdown_headings, rst_headings
from cortex_pipelines.ingest.languages import language_of, vendored_or_generated
from cortex_pipelines.retrieval.chunker import CodeChunker
from cortex_pipelines.retrieval.chunking import Chunk, chunk_document
from cortex_pipelines.retrieval.search import embedder, search_words
from cortex_pipelines.stairs import Batch, Changes, Item, Outcome, Plan, Stair, Verdict, Work, compare, cut

if TYPE_CHECKING:
    from cortex_pipelines.store import Publishing, Snapshot

STAGE = "rag_index"
VERSION = "3/wordllama-l2-supercat-256"
PROSE = {"markdown": markdown_headings, "rst": rst_headings}


def plan_index(work: Work) -> Plan:
    snapshot = work.store.snapshot()
    stored = {} if work.force else snapshot.keys("indexed")
    changes = compare(_items(snapshot), stored, work.store.staging(STAGE).items())
    moved = _moved(changes, stored)
    return Plan(cut([item for item in changes.todo if item.id not in moved]))


def map_index(work: Work, batch: Batch) -> dict[str, int]:
    snapshot = work.store.snapshot()
    names = [item.id for item in batch.items]
    documents = {row["path"]: Document.from_row(row) for row in snapshot.rows("documents", None, {"path": names})}
    files = {row["source"]: row for row in snapshot.rows("files", ["source", "text", "language"], {"source": names})}
    rows: list[dict[str, Any]] = []
    indexed: list[dict[str, Any]] = []
    with CodeChunker() as chunker:
        for item in batch.items:
            digest = item.key.partition(":")[0]
            if document := documents.get(item.id):
                chunks = chunk_document(document.text, document.headings, document.pages)
                made = [_row(item.id, digest, chunk, "prose", None, document.title) for chunk in chunks]
            elif file := files.get(item.id):
                made = list(_file_rows(chunker, item.id, digest, file["text"] or "", file["language"]))
            else:
                continue
            rows.extend(made)
            row = {"source": item.id, "named": item.id, "digest": digest, "version": VERSION, "chunks": len(made)}
            indexed.append(row)
    _embed(rows)
    items = {row["source"]: f"{row['digest']}:{VERSION}" for row in indexed}
    work.store.staging(STAGE).put(batch.name, {"chunks": rows, "indexed": indexed}, items)
    return {"chunks": len(rows)}


def commit_index(work: Work, plan: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
    snapshot = work.store.snapshot()
    wanted = _items(snapshot)
    current = {item.id: item.key for item in wanted}
    staging = work.store.staging(STAGE)
    names = staging.names()
    indexed = snapshot.keys("indexed")
    changes = compare(wanted, indexed, staging.items())
    moved = {} if work.force else {old: new for new, old in _moved(changes, indexed).items()}
    gone = [source for source in changes.gone if source not in moved]
    called = _columns(snapshot, "indexed", "source", "named")
    renamed = moved | {source: source for source, named in called if source != named}
    verdicts = {name: Verdict(True) for name in ("row_count_equals_chunks", "keys_unique", "no_orphans")}
    if names or gone or renamed:
        with work.store.publishing() as writer:
            writer.delete("chunks", "source", gone)
            writer.delete("indexed", "source", gone)
            _rename(writer, renamed)
            for items, tables in staging.tables(names):
                import pyarrow.compute as pc

                done = [source for source, key in items.items() if current.get(source) == key]
                for table in ("chunks", "indexed"):
                    rows = tables[table].filter(pc.field("source").isin(done))
                    writer.replace(table, "source", done, rows)
            verdicts = _verdicts(writer, current)
            if all(verdict.passed for verdict in verdicts.values()):
                writer.publish()
                staging.clear(names)
    snapshot = work.store.snapshot()
    return Outcome(
        {"sources": snapshot.count("indexed"), "chunks": snapshot.count("chunks"), "gone": len(gone)},
        snapshot.versions("chunks"),
        verdicts,
        bool(names or gone or renamed),
    )


def _verdicts(writer: "Publishing", current: Collection[str]) -> dict[str, Verdict]:
    import pyarrow.compute as pc

    chunks = writer.arrow("chunks", ["chunk_id", "source"])
    expected = pc.sum(writer.arrow("indexed", ["chunks"])["chunks"]).as_py() or 0
    return {
        "row_count_equals_chunks": Verdict(expected == chunks.num_rows),
        "keys_unique": Verdict(len(chunks["chunk_id"].unique()) == chunks.num_rows),
        "no_orphans": Verdict(all(source in current for source in chunks["source"].unique().to_pylist())),
    }


RAG_INDEX = Stair(plan_index, map_index, commit_index)


def _items(snapshot: "Snapshot") -> list[Item]:
    # Another parser makes another text of the same bytes.
    documents = [
        Item(path, f"{digest}/{version}:{VERSION}", size)
        for path, digest, version, size in _columns(snapshot, "documents", "path", "digest", "version", "size")
    ]
    files = [
        Item(source, f"{digest}:{VERSION}", size)
        for source, path, digest, size, skipped in _columns(
            snapshot, "files", "source", "path", "digest", "size", "skipped"
        )
        if skipped is None and size and not vendored_or_generated(path)
    ]
    return documents + files


def _columns(snapshot: "Snapshot", table: str, *names: str) -> Iterator[tuple[Any, ...]]:
    """Rows as tuples: of a hundred thousand they take a third of the time that dictionaries do."""
    rows = snapshot.arrow(table, names)
    return zip(*(rows[name].to_pylist() for name in names), strict=True)


def _moved(changes: Changes, stored: Mapping[str, str]) -> dict[str, str]:
    """The sources to do that have another name only, and the one they had."""

    def content(source: str, key: str) -> tuple[str, str]:
        return key, source.rpartition("/")[2].rpartition(".")[2]

    left = {content(source, stored[source]): source for source in changes.gone}
    found = {}
    for item in changes.todo:
        if old := left.pop(content(item.id, item.key), None):
            found[item.id] = old
    return found


def _rename(writer: "Publishing", moved: Mapping[str, str]) -> None:
    """Let chunks be of the source that they are found in now; `moved` maps what they are kept under to that.

    Vectors stay where the title does.
    """
    documents = writer.rows("documents", ["path", "title"], {"path": list(moved.values())})
    titles = {row["path"]: row["title"] for row in documents}
    rows = writer.rows("chunks", where={"source": list(moved)})
    anew = []
    for row in rows:
        source = moved[row["source"]]
        title = titles.get(source, source.rpartition("/")[2])
        if title != row["title"]:
            anew.append(row)
        row |= {"source": source, "title": title, "chunk_id": _chunk_id(source, row["digest"], row["byte_start"])}
        row["search_text"] = _search_text(row)
    _embed(anew)
    indexed = writer.rows("indexed", where={"source": list(moved)})
    for table in ("chunks", "indexed"):
        writer.delete(table, "source", moved)
    writer.upsert("chunks", rows)
    writer.upsert("indexed", [row | {"source": moved[row["source"]], "named": moved[row["source"]]} for row in indexed])


def _embed(rows: list[dict[str, Any]]) -> None:
    vectors = embedder().embed([f"{row['title']}\n{row['section']}\n{row['text']}" for row in rows])
    for row, vector in zip(rows, vectors, strict=True):
        row["vector"] = vector


def chunk_file(chunker: CodeChunker, path: str, text: str, language: str | None) -> tuple[list[Chunk], str]:
    """The chunks of a file of a repository, and whether they are `prose` or `code`."""
    suffix = path.rpartition(".")[2].lower()
    if suffix == "md":
        return chunk_document(text, markdown_headings(text)), "prose"
    if suffix in ("rst", "txt"):
        return chunk_document(text, rst_headings(text)), "prose"
    return chunker.chunk(text, language), "code"


def _file_rows(
    chunker: CodeChunker, source: str, digest: str, text: str, language: str | None
) -> Iterator[dict[str, Any]]:
    spoken = language or language_of(source)
    chunks, kind = chunk_file(chunker, source, text, spoken)
    for chunk in chunks:
        yield _row(source, digest, chunk, kind, spoken, source.rpartition("/")[2])


def _row(source: str, digest: str, chunk: Chunk, kind: str, language: str | None, title: str) -> dict[str, Any]:
    row = {
        "chunk_id": _chunk_id(source, digest, chunk.byte_start),
        "source": source,
        "kind": kind,
        "language": language,
        "title": title,
        "section": chunk.section,
        "page": chunk.page,
        "line_start": chunk.line_start,
        "line_end": chunk.line_end,
        "byte_start": chunk.byte_start,
        "byte_end": chunk.byte_end,
        "text": chunk.text,
        "digest": digest,
        "version": VERSION,
    }
    return row | {"search_text": _search_text(row)}


def _chunk_id(source: str, digest: str, byte_start: int) -> str:
    return hashlib.blake2b(f"{source}\0{digest}\0{VERSION}\0{byte_start}".encode(), digest_size=16).hexdigest()


def _search_text(row: Mapping[str, Any]) -> str:
    return search_words(f"{row['source']} {row['title']} {row['section']}\n{row['text']}")
