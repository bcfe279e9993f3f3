"""Hostile files: each ends in a counted skip with its reason, and the files beside it are analysed."""

import json

import pytest

from cortex_pipelines.codebase import linting, reader
from cortex_pipelines.codebase.linting import lint
from cortex_pipelines.codebase.reader import CodeReader

CRASHED = "its parser failed: it crashed or ran out of memory"
GOOD = "import os\n\neval(os.name)\n"
NESTED = "(\n" * 100_000
WRONG = "def f(:\n    x ==== 1\n"


@pytest.fixture
def impatient(monkeypatch):
    """Files get less time than usual, so that the tests do not take the time that a hostile file would."""
    monkeypatch.setattr(reader, "SECONDS", 4.0)
    monkeypatch.setattr(linting, "LEAST_SECONDS", 4.0)


def test_hostile_files_are_counted_as_failed_and_the_good_one_beside_them_is_analysed(work, analyse, impatient):
    outcome = analyse(
        {
            "good.py": GOOD,
            "nested.py": NESTED,
            "line.py": "x = '" + "a" * 5_000_000 + "'\n",
            "line.js": "a=1;" * 20_000,
            "wrong.py": WRONG,
            "binary.py": b"\0\1\2" * 1_000,
        }
    )
    snapshot = work.store.snapshot()
    assert outcome.changed
    assert {(row["rule"], row["line_start"]) for row in snapshot.rows("code_findings", where={"source": "r/good.py"})}
    [row] = snapshot.rows("code_analyses")
    runs = {run["tool"]: run for run in json.loads(row["tools"])}
    for run in runs.values():
        assert run["files_seen"] == run["files_parsed"] + len(run["files_failed"])
    failed = {fault["source"]: fault["reason"] for fault in runs["tree-sitter"]["files_failed"]}
    assert failed["r/nested.py"].startswith("its parser ")
    assert failed["r/line.js"] == "minified"
    skipped = {row["source"]: row["skipped"] for row in snapshot.rows("files")}
    assert skipped["r/binary.py"] == "binary"
    assert skipped["r/line.py"] or "characters" in failed["r/line.py"]
    [unlinted] = runs["ruff"]["files_failed"]
    assert (unlinted["source"], unlinted["reason"].startswith("ruff: line 1: ")) == ("r/wrong.py", True)
    files = {row["source"]: row for row in snapshot.rows("code_files")}
    assert (files["r/wrong.py"]["parsed"], files["r/wrong.py"]["error_lines"] > 0) == (True, True)
    assert not analyse().changed


def test_a_file_that_breaks_its_parser_breaks_no_other(impatient):
    with CodeReader() as opened:
        assert opened.read("class A { int x = " + "a<\n" * 50_000, "java").left_out is not None
        # The bash grammar reads beyond a table of C, which ends the child or does not.
        assert opened.read("{\U0010fffd", "bash").left_out in (None, CRASHED)
        assert [symbol.name for symbol in opened.read("def f():\n    pass\n", "python").symbols] == ["f"]


def test_a_file_that_the_linter_cannot_read_fails_alone(impatient):
    run = lint({"nested": NESTED, "good": GOOD, "wrong": WRONG, "empty": ""})
    assert set(run.found) == {"good", "empty"}
    assert [told.code for told in run.found["good"]] == ["S307"]
    assert set(run.failed) == {"nested", "wrong"}


def test_a_file_with_more_findings_than_anyone_reads_is_cut_and_says_so():
    run = lint({"a.py": "eval(x)\n" * 1_000})
    assert len(run.found["a.py"]) == linting.FINDINGS_PER_FILE
    # Two rules flag each line: eval, and a name that is not defined.
    assert run.cut == 2_000 - linting.FINDINGS_PER_FILE


def test_odd_line_ends_do_not_move_a_finding():
    run = lint({"mac.py": "x = 1\ry = 2\neval(x)\n", "dos.py": "import os\r\n\r\neval(os.name)\r\n"})
    assert [told.line_start for told in run.found["dos.py"]] == [3]
    assert "mac.py" in run.failed or {told.line_start for told in run.found["mac.py"]} == {2}
