"""The index: what is stored of each source, and how it follows the sources."""

from dataclasses import replace

import pytest

from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.retrieval import index as module
from cortex_pipelines.retrieval.chunker import CodeChunker
from cortex_pipelines.retrieval.index import RAG_INDEX
from cortex_pipelines.retrieval.search import search
from cortex_pipelines.stairs import Work, climb
from cortex_pipelines.store import ProjectStore

GUIDE = "# Guide\n\nMount the antenna high.\n\n## Power\n\nClean the panel.\n"
CODE = {"src/app.py": "def mount_antenna():\n    return 'high'\n", "README.md": "# App\n\nÜber alles.\n"}


def chunks(work, source=None):
    rows = work.store.snapshot().rows("chunks", where={"source": source} if source else None)
    return sorted(rows, key=lambda row: (row["source"], row["byte_start"]))


def test_every_chunk_is_stored_with_what_stands_at_its_place(work, index):
    outcome = index({"guide.md": GUIDE}, CODE)
    rows = chunks(work)
    texts = work.store.snapshot().texts(sorted({row["source"] for row in rows}))
    assert set(texts) == {"guide.md", "r/src/app.py", "r/README.md"}
    for row in rows:
        data = texts[row["source"]].encode()
        assert data[row["byte_start"] : row["byte_end"]].decode() == row["text"]
        assert row["text"].split("\n")[0] in texts[row["source"]].split("\n")[row["line_start"] - 1]
    assert [(row["section"], row["line_start"]) for row in chunks(work, "guide.md")] == [
        ("Guide", 1),
        ("Guide > Power", 5),
    ]
    [code] = chunks(work, "r/src/app.py")
    assert (code["kind"], code["language"], code["line_end"]) == ("code", "python", 2)
    assert {row["kind"] for row in chunks(work, "r/README.md")} == {"prose"}
    assert outcome.metadata == {"sources": 3, "chunks": len(rows), "gone": 0}
    assert all(verdict.passed for verdict in outcome.verdicts.values())


def test_a_run_with_nothing_changed_embeds_nothing_and_opens_no_writer(work, index, monkeypatch):
    first = index({"guide.md": GUIDE}, CODE)
    assert first.changed
    monkeypatch.setattr(module, "embedder", lambda: pytest.fail("something was embedded"))
    monkeypatch.setattr(ProjectStore, "publishing", lambda *_: pytest.fail("a writer was opened"))
    second = index()
    assert not second.changed
    assert second.version == first.version


def test_only_a_source_that_changed_is_chunked_again(work, index):
    index({"guide.md": GUIDE}, CODE)
    kept = {row["chunk_id"] for row in chunks(work) if row["source"] != "r/src/app.py"}
    index(code={"src/app.py": "def mount_antenna():\n    return 'higher'\n"})
    [row] = chunks(work, "r/src/app.py")
    assert "higher" in row["text"]
    assert {row["chunk_id"] for row in chunks(work)} == {*kept, row["chunk_id"]}


def test_what_is_gone_is_not_found_any_more(work, index):
    index({"guide.md": GUIDE, "other.md": "# Other\n\nNothing of interest.\n"}, CODE)
    assert search(work.store.snapshot(), "mount the antenna")[0].source in ("guide.md", "r/src/app.py")
    index({"guide.md": None}, {"src/app.py": None})
    hits = search(work.store.snapshot(), "mount the antenna")
    assert {hit.source for hit in hits} == {"other.md", "r/README.md"}
    assert [row["source"] for row in work.store.snapshot().rows("indexed")] == sorted({hit.source for hit in hits})


def test_equal_files_of_a_repository_are_indexed_each_under_its_own_name(work, index):
    index(code={"a.py": CODE["src/app.py"], "b.py": CODE["src/app.py"]})
    assert {row["source"] for row in chunks(work)} == {"r/a.py", "r/b.py"}


def test_a_file_that_was_moved_in_a_repository_keeps_its_vectors(work, index):
    index(code=CODE)
    [before] = chunks(work, "r/src/app.py")
    index(code={"src/app.py": None, "lib/app.py": CODE["src/app.py"]})
    [after] = chunks(work, "r/lib/app.py")
    assert after["vector"] == before["vector"]
    assert search(work.store.snapshot(), "lib")[0].source == "r/lib/app.py"
    assert chunks(work, "r/src/app.py") == []


def test_a_file_that_was_renamed_is_as_one_that_came_under_its_new_name(work, index, tmp_path):
    index({"ferry.txt": "The ferry leaves at seven.\n"}, CODE)
    (work.settings.inbox / work.project / "ferry.txt").rename(work.settings.inbox / work.project / "boat.txt")
    index(code={"src/app.py": None, "src/main.py": CODE["src/app.py"]})
    kept = sorted(chunks(work), key=lambda row: row["chunk_id"])
    for stair in (DOCUMENTS, REPOSITORIES, RAG_INDEX):
        climb(stair, replace(work, force=True))
    assert sorted(chunks(work), key=lambda row: row["chunk_id"]) == kept


def test_lock_files_and_vendored_files_are_not_indexed(work, index):
    index(code={**CODE, "uv.lock": "x = 1\n", "vendor/a.py": "x = 1\n", "empty.py": ""})
    assert {row["source"] for row in chunks(work)} == {"r/src/app.py", "r/README.md"}


def test_hostile_files_do_not_stop_the_others(work, index):
    hostile = "class A { int x = " + "a<" * 5_000
    index({"guide.md": GUIDE}, {**CODE, "A.java": hostile, "nested.py": "(\n" * 20_000, "line.js": "a=1;" * 100_000})
    assert "".join("".join(row["text"] for row in chunks(work, "r/A.java")).split()) == "".join(hostile.split())
    assert {"guide.md", "r/A.java", "r/nested.py", "r/line.js", "r/src/app.py"} <= {
        row["source"] for row in chunks(work)
    }


def test_files_without_code_start_no_chunker(work, index, monkeypatch):
    monkeypatch.setattr(CodeChunker, "ask", lambda *_: pytest.fail("a child was started"))
    index({"guide.md": GUIDE}, {"README.md": "# App\n", "notes.txt": "Some notes.\n"})
    assert len(chunks(work)) == 4


def test_what_a_run_that_did_not_commit_has_indexed_is_not_indexed_again(work, index):
    index({"guide.md": GUIDE})
    forced = Work(work.project, work.settings, work.store, force=True)
    for batch in RAG_INDEX.plan(forced).batches:
        RAG_INDEX.map(forced, batch)
    assert RAG_INDEX.plan(work).batches == []
    assert climb(RAG_INDEX, work).metadata["sources"] == 1
    assert work.store.staging("rag_index").names() == []
