"""What was not read, as people see it, and another try at it."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from cortex_pipelines.ingest import repositories
from cortex_pipelines.ingest.quarantine import HINTS, grouped, hint, told

INPUTS = Path(__file__).parents[2] / "docs" / "inputs.md"


@pytest.fixture
def atlas(settings):
    (settings.inbox / "atlas").mkdir()
    return settings.inbox / "atlas"


def status(cortex, *arguments):
    [row] = json.loads(cortex("status", "--json", *arguments).stdout)
    return row


def test_reasons_that_differ_in_details_are_one_and_the_most_frequent_comes_first():
    rows = [
        ("c", "is encrypted"),
        ("a", "is a broken DOCX: no part named word/document.xml"),
        ("b", "is a broken DOCX: bad magic number"),
        ("e", "has more than 64 MiB of text"),
        ("d", "has more than 128 MiB of text"),
        ("f", "has more than 8 MiB of text"),
    ]
    groups = grouped(rows)
    assert [(group.reason, group.paths) for group in groups] == [
        ("has more than 128 MiB of text", ("d", "e", "f")),
        ("is a broken DOCX", ("a", "b")),
        ("is encrypted", ("c",)),
    ]
    assert groups[1].hint == "export it again"
    shown = told([{"path": path, "reason": reason} for path, reason in rows])
    assert (shown["count"], len(shown["reasons"])) == (6, 3)
    assert json.loads(json.dumps(shown)) == shown


def test_what_to_do_is_what_the_documentation_says():
    rows = [line for line in INPUTS.read_text().splitlines() if line.startswith("| ")]
    for words, what in HINTS:
        assert any(words in row.split("|")[1] and what in row.split("|")[2] for row in rows), (words, what)
    assert hint("is something new") == ""


def test_status_tells_what_was_read_what_waits_and_what_was_not_read_by_reason(cortex, atlas):
    (atlas / "good.md").write_text("# Good\n\nWords.\n")
    for number in range(7):
        (atlas / f"empty{number}.md").write_text("")
    (atlas / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    before = status(cortex)
    assert (before["documents"], before["published_at"], len(before["changed"])) == (0, None, 9)
    assert cortex("status", "--check").exit_code == 0
    for path in atlas.iterdir():
        os.utime(path, (1e9, 1e9))
    assert cortex("run").exit_code == 0
    (atlas / "late.md").write_text("late")
    row = status(cortex)
    assert (row["project"], row["documents"], row["repositories"], row["staged"]) == ("atlas", 1, 0, 0)
    assert row["changed"] == ["late.md"]
    assert row["published_at"]
    assert [(group["reason"], group["count"]) for group in row["quarantine"]] == [
        ("is empty", 7),
        ("is a broken PDF", 1),
    ]
    assert len(row["quarantine"][0]["paths"]) == 5
    assert len(status(cortex, "--all")["quarantine"][0]["paths"]) == 7
    shown = cortex("status", "atlas")
    assert shown.exit_code == 0
    assert "is a broken PDF, 1: export it again" in shown.stdout
    assert "and 2 more: --all lists them" in shown.stdout
    assert cortex("status", "--check").exit_code == 1


def test_what_is_in_quarantine_is_read_by_a_retry_though_it_has_not_changed(cortex, atlas, monkeypatch):
    for name in ("letters.zip", "copy.zip"):
        with zipfile.ZipFile(atlas / name, "w") as archive:
            for number in range(3):
                archive.writestr(
                    zipfile.ZipInfo(f"letter{number}.md"), f"# Letter {number}\n\nIt is number {number}.\n"
                )
    monkeypatch.setenv("CORTEX_ARCHIVE_MEMBERS", "2")
    assert cortex("run").exit_code == 0
    first = status(cortex)
    assert first["quarantine"]
    monkeypatch.setenv("CORTEX_ARCHIVE_MEMBERS", "10")
    assert cortex("run").exit_code == 0
    assert status(cortex)["quarantine"] == first["quarantine"]
    assert cortex("retry", "nothing/such").exit_code == 1
    assert cortex("retry", "--reason", "is encrypted").exit_code == 1
    done = cortex("retry", "letters.zip", "--json")
    assert done.exit_code == 0, done.output
    [told] = json.loads(done.stdout)
    assert (told["project"], told["not_read"], told["read"]) == ("atlas", {}, told["tried"])
    after = status(cortex)
    assert (after["documents"], after["quarantine"]) == (3, [])
    assert "It is number 2" in cortex("search", "letter number 2").stdout


def test_what_is_still_as_bad_stays_in_quarantine_with_its_reason(cortex, atlas):
    (atlas / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    (atlas / "good.md").write_text("# Good\n\nWords.\n")
    assert cortex("retry").exit_code == 0
    assert cortex("run").exit_code == 0
    before = status(cortex)["quarantine"]
    done = cortex("retry", "--reason", "BROKEN pdf")
    assert done.exit_code == 0, done.output
    assert "1 tried again, 0 of them no longer in quarantine" in done.stdout
    assert "broken.pdf: is a broken PDF" in done.stdout
    assert status(cortex)["quarantine"] == before
    assert status(cortex)["documents"] == 1


def test_a_bundle_that_was_broken_is_opened_again_by_a_retry_only(cortex, atlas, monkeypatch):
    (atlas / "r.bundle").write_bytes(b"no bundle at all")
    opened = []
    real = repositories.open_bundle

    def counted(path, *rest):
        opened.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(repositories, "open_bundle", counted)
    assert cortex("run").exit_code == 0
    (atlas / "a.md").write_text("# A\n")
    opened.clear()
    assert cortex("run").exit_code == 0
    assert opened == []
    assert cortex("retry", "r.bundle").exit_code == 0
    assert "r.bundle" in opened
    [group] = status(cortex)["quarantine"]
    assert group["paths"] == ["r.bundle"]
