"""The documents product: every format of the sample, bad input one by one, and what a change costs."""

import os
import shutil
import time

import pytest

from cortex_pipelines.errors import CortexError
from cortex_pipelines.ingest import documents as module
from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.parsing import Unreadable
from cortex_pipelines.ingest.reader import DocumentReader
from cortex_pipelines.products import PRODUCTS, build
from cortex_pipelines.stairs import Work, climb
from cortex_pipelines.store import ProjectStore


def texts(work):
    return {row["path"]: row["text"] for row in work.store.snapshot().rows("documents")}


def quarantine(work):
    return {row["path"]: row["reason"] for row in work.store.snapshot().rows("quarantine")}


def run(work):
    return climb(DOCUMENTS, work)


def test_every_format_of_the_sample_is_read_with_its_structure(sample, settings):
    work = Work("kestrel", settings, ProjectStore(settings.store, "kestrel", settings.state))
    run(work)
    rows = {row["path"]: module.Document.from_row(row) for row in work.store.snapshot().rows("documents")}
    assert set(rows) == {
        "documents/faq.html",
        "documents/handbook.pdf",
        "documents/planning-chat.md",
        "documents/prd.md",
        "documents/privacy.docx",
        "documents/spec.md",
        "logs/gateway.log",
    }
    assert len(rows["documents/handbook.pdf"].pages) > 1
    assert [heading.text for heading in rows["documents/privacy.docx"].headings][:2] == [
        "Kestrel: privacy and security",
        "Access control",
    ]
    assert "| warden names | 90 days after leaving | retention job |" in rows["documents/privacy.docx"].text
    for document in rows.values():
        lines = document.text.split("\n")
        for heading in document.headings:
            assert heading.text in lines[heading.line - 1]
    assert quarantine(work) == {
        "documents/empty.txt": "is empty",
        "documents/handbook-locked.pdf": "is encrypted",
    }


def test_bad_files_are_quarantined_with_their_reason_and_the_good_ones_are_read(work, folder):
    (folder / "good.md").write_text("# Good\n\nText.\n")
    (folder / "zero.txt").write_bytes(b"")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing else")
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 and nothing else")
    (folder / "binary.dat").write_bytes(bytes(range(256)) * 10)
    (folder / "directory.pdf").mkdir()
    (folder / "directory.pdf" / "inside.md").write_text("inside")
    (folder / "new\nline.md").write_text("x")
    with open(os.fsencode(folder) + b"/bad\xff.md", "wb") as file:
        file.write(b"x")
    (folder.parent / "outside.md").write_text("outside")
    (folder / "link.md").symlink_to(folder.parent / "outside.md")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    outcome = run(work)
    assert set(texts(work)) == {"good.md", "directory.pdf/inside.md"}
    assert quarantine(work) == {
        "zero.txt": "is empty",
        "broken.pdf": "is a broken PDF",
        "broken.docx": "is a broken archive",
        "binary.dat": "is binary, or text in an unknown encoding",
        "new\\x0aline.md": "its name has control characters: rename it",
        "bad\\xff.md": "its name is not valid UTF-8: rename it",
        "link.md": "is a symbolic link: put the file itself here",
        "loop": "is a symbolic link: put the file itself here",
        "pipe": "is no regular file",
    }
    assert not outcome.verdicts["quarantine"].passed
    assert outcome.verdicts["quarantine"].warn
    assert not outcome.failed


def test_a_file_that_vanishes_while_it_is_read_is_no_error(work, folder, monkeypatch):
    (folder / "a.md").write_text("a")
    (folder / "b.md").write_text("b")
    real = module.read_landed

    def read(path, *rest):
        (folder / "b.md").unlink(missing_ok=True)
        return real(path, *rest)

    monkeypatch.setattr(module, "read_landed", read)
    run(work)
    assert texts(work) == {"a.md": "a"}
    assert quarantine(work) == {}


def test_a_file_that_changes_between_scan_and_read_is_stored_as_it_was_read_or_read_again(work, folder, monkeypatch):
    (folder / "a.md").write_text("first")
    real = module.read_landed

    def read(path, *rest):
        path.write_text("second, while it was read")
        return real(path, *rest)

    monkeypatch.setattr(module, "read_landed", read)
    run(work)
    monkeypatch.setattr(module, "read_landed", real)
    run(work)
    assert texts(work) == {"a.md": "second, while it was read"}


def test_only_what_changed_is_read_again_and_what_is_gone_disappears_everywhere(work, folder, monkeypatch):
    for name in ("a.md", "b.md", "c.md"):
        (folder / name).write_text(f"# {name}\n\nSome words about {name}.\n")
    for product in PRODUCTS:
        build(product, work)
    read = []
    real = module.read_landed
    monkeypatch.setattr(module, "read_landed", lambda path, *rest: read.append(path.name) or real(path, *rest))
    (folder / "b.md").write_text("# b\n\nOther words.\n")
    (folder / "c.md").unlink()
    for product in PRODUCTS:
        build(product, work)
    assert read == ["b.md"]
    assert set(texts(work)) == {"a.md", "b.md"}
    assert {row["source"] for row in work.store.snapshot().rows("chunks", ["source"])} == {"a.md", "b.md"}


def test_a_file_that_was_mended_leaves_the_quarantine(work, folder):
    (folder / "a.txt").write_bytes(b"")
    run(work)
    assert quarantine(work)
    (folder / "a.txt").write_text("words")
    run(work)
    assert quarantine(work) == {}
    assert texts(work) == {"a.txt": "words"}


def test_a_missing_and_an_empty_project(work, folder):
    outcome = run(work)
    assert not outcome.verdicts["not_empty"].passed
    assert not outcome.failed
    shutil.rmtree(folder)
    with pytest.raises(CortexError, match="there is no project atlas"):
        run(work)


def test_a_parser_that_hangs_is_ended_and_the_next_file_is_read():
    page = b"<html><body>" + b"<b>" * 200_000 + b"x"
    with DocumentReader(seconds=0.05) as reader:
        began = time.monotonic()
        with pytest.raises(Unreadable, match="its parser"):
            reader.parse("deep.html", page * 20)
        assert time.monotonic() - began < 10
    with DocumentReader() as reader:
        assert reader.parse("a.html", b"<html><body><p>Hello</p></body></html>").text.strip() == "Hello"


def test_a_bomb_is_refused(work, folder):
    import zipfile

    with zipfile.ZipFile(folder / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"0" * 250 * 2**20)
    run(work)
    assert quarantine(work) == {"bomb.docx": "unpacks to far more than a document holds"}


def test_what_was_read_before_a_kill_is_not_read_again(work, folder, monkeypatch):
    for number in range(20):
        (folder / f"{number:02d}.md").write_text(str(number))
    monkeypatch.setattr("cortex_pipelines.stairs.BATCH_ITEMS", 5)
    real = module.read_landed
    read = []

    def dying(path, *rest):
        if len(read) == 12:
            raise KeyboardInterrupt
        read.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(module, "read_landed", dying)
    with pytest.raises(KeyboardInterrupt):
        run(work)
    assert texts(work) == {}
    again = []
    monkeypatch.setattr(module, "read_landed", lambda path, *rest: again.append(path.name) or real(path, *rest))
    run(work)
    assert again == [f"{number:02d}.md" for number in range(10, 20)]
    assert len(texts(work)) == 20
