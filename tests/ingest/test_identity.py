"""What a document is: its text, wherever it lies. Moved, copied, gone and nearly the same."""

import io
import shutil
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.near import ALIKE, grouped, sketch
from cortex_pipelines.retrieval.index import RAG_INDEX
from cortex_pipelines.retrieval.search import search
from cortex_pipelines.running import run_project
from cortex_pipelines.settings import load_settings
from cortex_pipelines.stairs import Work, climb
from cortex_pipelines.store import ProjectStore
from cortex_pipelines.store.tables import TABLES

FERRY = "# Ferries\n\nThe ferry to Skagen leaves at seven every morning.\n"
TRAIN = "# Trains\n\nThe night train to Narvik has a sleeping car.\n"
MAIL = (
    "From: ana@example.org\nTo: ben@example.org\nSubject: The plan\nMIME-Version: 1.0\n"
    'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\nThe plan is attached.\n'
    "--b\nContent-Type: text/markdown\nContent-Disposition: attachment; filename=plan.md\n\n" + FERRY + "--b--\n"
)


def build(work):
    """Read and index; how many documents were parsed and how many chunks made."""
    read = climb(DOCUMENTS, work).metadata["read"]
    before = {row["chunk_id"]: row["vector"] for row in work.store.snapshot().rows("chunks")}
    plan = RAG_INDEX.plan(work)
    made = [RAG_INDEX.map(work, batch) for batch in plan.batches]
    outcome = RAG_INDEX.commit(work, plan, made)
    assert not outcome.failed
    return read, sum(count["chunks"] for count in made), before


def documents(work):
    return {row["path"]: row["text"] for row in work.store.snapshot().rows("documents")}


def holders(work):
    return {row["path"]: row["document"] for row in work.store.snapshot().rows("holders")}


def sources(work):
    return sorted({row["source"] for row in work.store.snapshot().rows("chunks")})


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/") + ".md", text)
    return file.getvalue()


@pytest.mark.parametrize("new", ["later.md", "deeper/down/ferry.md"])
def test_a_moved_file_is_neither_parsed_nor_chunked_again(work, folder, new):
    (folder / "ferry.md").write_text(FERRY)
    assert build(work)[:2] == (1, 1)
    (folder / new).parent.mkdir(parents=True, exist_ok=True)
    (folder / "ferry.md").rename(folder / new)
    assert build(work)[:2] == (0, 0)
    assert documents(work) == {new: FERRY}
    (hit,) = search(work.store.snapshot(), "ferry Skagen")
    assert (hit.source, hit.line_start) == (new, 1)
    # The words of its new name find it.
    assert search(work.store.snapshot(), new.rpartition("/")[2].removesuffix(".md"))[0].source == new


def test_a_folder_that_was_renamed_keeps_everything(work, folder):
    (folder / "old").mkdir()
    for number in range(30):
        (folder / "old" / f"{number}.md").write_text(f"# Notes {number}\n\nThe ferry {number} leaves at {number}.\n")
    build(work)
    (folder / "old").rename(folder / "new")
    assert build(work)[:2] == (0, 0)
    assert sources(work) == sorted(f"new/{number}.md" for number in range(30))


def test_rotated_files_swap_their_rows(work, folder):
    for number in range(4):
        (folder / f"app.{number}.txt").write_text(f"The day {number} had {number} errors in the harbour.\n")
    build(work)
    for number in reversed(range(4)):
        (folder / f"app.{number}.txt").rename(folder / f"app.{number + 1}.txt")
    (folder / "app.0.txt").write_text("A new day begins without errors.\n")
    assert build(work)[:2] == (1, 1)
    assert documents(work)["app.3.txt"] == "The day 2 had 2 errors in the harbour.\n"
    ids = [row["chunk_id"] for row in work.store.snapshot().rows("chunks")]
    assert len(ids) == len(set(ids)) == 5


def test_a_name_that_its_content_depends_on_is_part_of_it(work, folder):
    (folder / "ferry.txt").write_text(FERRY)
    build(work)
    (folder / "ferry.txt").rename(folder / "ferry.md")
    assert build(work)[0] == 1
    (row,) = work.store.snapshot().rows("documents")
    assert (row["path"], row["media_type"], row["title"]) == ("ferry.md", "text/markdown", "Ferries")


def test_copies_are_stored_once_and_listed(work, folder):
    (folder / "a.md").write_text(FERRY)
    (folder / "b.md").write_text(FERRY)
    (folder / "c.zip").write_bytes(zipped(inner=FERRY, other=TRAIN))
    assert build(work)[0] == 3
    assert documents(work) == {"a.md": FERRY, "c.zip/other.md": TRAIN}
    assert holders(work) == {
        "a.md": "a.md",
        "b.md": "a.md",
        "c.zip/inner.md": "a.md",
        "c.zip/other.md": "c.zip/other.md",
    }
    hit = search(work.store.snapshot(), "ferry Skagen")[0]
    assert (hit.source, hit.also) == ("a.md", ("b.md", "c.zip/inner.md"))
    # The place that had the rows goes: another one takes them, and nothing is made again.
    (folder / "a.md").unlink()
    assert build(work)[:2] == (0, 0)
    assert documents(work) == {"b.md": FERRY, "c.zip/other.md": TRAIN}
    (folder / "b.md").unlink()
    (folder / "c.zip").rename(folder / "d.zip")
    assert build(work)[:2] == (0, 0)
    assert documents(work) == {"d.zip/inner.md": FERRY, "d.zip/other.md": TRAIN}
    (folder / "d.zip").unlink()
    build(work)
    assert (documents(work), holders(work), sources(work)) == ({}, {}, [])


def test_a_copy_that_is_edited_leaves_the_other_one_as_it_was(work, folder):
    (folder / "a.md").write_text(FERRY)
    build(work)
    shutil.copy(folder / "a.md", folder / "b.md")
    (folder / "a.md").write_text(FERRY + "\nIn winter it leaves at eight.\n")
    build(work)
    assert documents(work) == {"a.md": FERRY + "\nIn winter it leaves at eight.\n", "b.md": FERRY}
    assert sources(work) == ["a.md", "b.md"]


def test_what_a_mail_brings_is_documents_of_their_own(work, folder):
    (folder / "plan.eml").write_text(MAIL)
    build(work)
    assert documents(work)["plan.eml/plan.md"].strip() == FERRY.strip()
    assert "The plan is attached." in documents(work)["plan.eml"]
    (folder / "plan.eml").unlink()
    build(work)
    assert documents(work) == {}


def test_nearly_the_same_is_found_once_and_named(work, folder):
    words = " ".join(f"The ferry of pier {number} leaves at {number} in the morning." for number in range(40))
    (folder / "first.md").write_text(f"# Ferries\n\n{words}\n")
    (folder / "second.md").write_text(f"# Ferries\n\n{words} A ticket is nine crowns.\n")
    (folder / "other.md").write_text(TRAIN)
    build(work)
    near = {row["path"]: row["near"] for row in work.store.snapshot().rows("sketches")}
    assert near["first.md"] == near["second.md"] != ""
    found = search(work.store.snapshot(), "ferry of pier 7")
    best = found[0].source
    assert {hit.source for hit in found} & {"first.md", "second.md"} == {best}
    assert found[0].also == tuple({"first.md", "second.md"} - {best})


@given(st.lists(st.sampled_from("abcdefghij"), min_size=60, max_size=300), st.integers(0, 40))
def test_texts_that_share_their_words_share_a_group(words, changed):
    text = [f"{word}{number // 3}" for number, word in enumerate(words)]
    other = [f"z{number}" if number < changed * len(text) // 100 else word for number, word in enumerate(text)]
    rows = [sketch(name, name, " ".join(said)) for name, said in (("one", text), ("two", other))]
    shingles = [{tuple(said[at : at + 3]) for at in range(len(said) - 2)} for said in (text, other)]
    alike = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    written = {row["path"]: row["near"] for row in grouped(rows, _nothing(), lambda paths: [])}
    if alike > ALIKE + 0.18:
        assert written["one"] == written["two"] == "one"
    if alike < ALIKE - 0.25:
        assert set(written.values()) == {""}


def _nothing():
    return TABLES["sketches"].schema().empty_table().select(["path", "bands"])


def test_nothing_of_a_project_is_left_in_any_table_when_all_of_it_is_deleted(sample, settings, variables):
    (sample / "mail.eml").write_text(MAIL)
    (sample / "more.zip").write_bytes(zipped(docs__ferry=FERRY, docs__train=TRAIN))
    (sample / "keys.md").write_text("# Keys\n\n" + "aws_access_key_id = " + "AKIA" + "Z7Q2M5X4K3W6B4N6" + "\n")
    run_project("kestrel", settings)
    store = ProjectStore(settings.store, "kestrel", settings.state)
    filled = {name for name in TABLES if store.snapshot().count(name)}
    assert filled >= {"landed", "holders", "documents", "sketches", "messages", "secrets", "files", "chunks", "gaps"}
    for entry in sample.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    run_project("kestrel", settings)
    left = {
        name: store.snapshot().count(name) for name in TABLES if TABLES[name].source or name in ("landed", "holders")
    }
    assert {name: count for name, count in left.items() if count} == {}


@pytest.mark.heavy
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "copy", "move", "delete", "pack"]), st.integers(0, 5), st.integers(0, 5)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_files_the_store_equals_one_made_anew(tmp_path_factory, steps):
    place = tmp_path_factory.mktemp("moves")
    folder = place / "inbox" / "atlas"
    folder.mkdir(parents=True)

    def work_in(store):
        given = {"CORTEX_INBOX": "inbox", "CORTEX_STORE": store, "CORTEX_STATE": f"{store}-state"}
        told = load_settings({name: str(place / value) for name, value in given.items()}, env_file=None)
        return Work("atlas", told, ProjectStore(told.store, "atlas", told.state))

    kept = work_in("kept")
    for number, (what, one, other) in enumerate(steps):
        path, target = folder / f"{one}.md", folder / f"{other}.md"
        if what == "write":
            path.write_text(f"# Number {other}\n\nThe ferry {other} leaves at {other} every morning.\n")
        elif what == "pack":
            (folder / f"{one}.zip").write_bytes(zipped(**{str(other): f"The train {other} has a car.\n", "x": FERRY}))
        elif what == "delete":
            path.unlink(missing_ok=True)
        elif path.exists() and path != target:
            (shutil.copy if what == "copy" else shutil.move)(path, target)
        if number % 2 or number == len(steps) - 1:
            build(kept)
    anew = work_in("anew")
    build(anew)
    assert _seen(kept) == _seen(anew)


def _seen(work):
    """What each place holds, and what of it can be found, whichever of its places has the rows."""
    snapshot = work.store.snapshot()
    texts = documents(work)
    chunks = {}
    for row in snapshot.rows("chunks"):
        chunks.setdefault(row["source"], set()).add((row["text"], row["byte_start"]))
    assert chunks.keys() == texts.keys()
    for row in snapshot.rows("chunks"):
        assert row["source"] in row["search_text"]
    held = holders(work)
    assert set(held.values()) == texts.keys()
    landed = {row["path"]: row["digest"] for row in snapshot.rows("landed")}
    return {path: (texts[document], chunks[document]) for path, document in held.items()}, landed
