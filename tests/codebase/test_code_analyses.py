"""Code analyses: seeded faults are found at their lines, quotes hold, and the analyses follow the repository."""

import json
from pathlib import Path

import pytest

from cortex_pipelines.codebase.analyses import CODE_ANALYSES, tool_versions
from cortex_pipelines.codebase.findings import LONG_FUNCTION
from cortex_pipelines.evidence import Severity
from cortex_pipelines.ingest.git import GitRepository
from cortex_pipelines.stairs import Work, climb
from cortex_pipelines.store import ProjectStore
from tests.ingest.git_building import git

APP = '''"""An application with faults."""

import sqlite3

from shop import rows


def find(connection: sqlite3.Connection, name: str, seen=[]):
    seen.append(name)
    return connection.execute(f"SELECT * FROM birds WHERE name = '{name}'")


def run(text):
    return eval(text)


def rate():
    return rows.of({})
'''
ROWS = "from shop import app\n\n\ndef of(row):\n    return app, row\n"
LONG = "def long(x):\n" + "".join(f"    x = x + {number}\n" for number in range(LONG_FUNCTION)) + "    return x\n"
WEB = "export function run(text) {\n  return eval(text);\n}\n\nexport function show(text) {\n  \
document.body.innerHTML = text;\n}\n"
FAULTY = {
    "shop/__init__.py": "",
    "shop/app.py": APP,
    "shop/rows.py": ROWS,
    "shop/long.py": LONG,
    "web/run.js": WEB,
}
SEEDED = {
    ("B006", "r/shop/app.py", 8): ("quality_assessment", "medium"),
    ("S608", "r/shop/app.py", 10): ("security_concerns", "medium"),
    ("S307", "r/shop/app.py", 14): ("security_concerns", "high"),
    ("import-cycle", "r/shop/app.py", 5): ("refactoring_suggestions", "medium"),
    ("long-function", "r/shop/long.py", 1): ("refactoring_suggestions", "low"),
    ("code-from-text", "r/web/run.js", 2): ("security_concerns", "high"),
    ("markup-from-text", "r/web/run.js", 6): ("security_concerns", "medium"),
}


def findings(work):
    return work.store.snapshot().rows("code_findings")


def told(work, source=None):
    """What every finding says, without its identifier."""
    return sorted(
        (row["source"], row["rule"], row["line_start"], row["line_end"], row["quote"], row["message"])
        for row in findings(work)
        if source in (None, row["source"])
    )


def tools(work):
    [row] = work.store.snapshot().rows("code_analyses")
    return {run["tool"]: run for run in json.loads(row["tools"])}


def summary(work):
    [row] = work.store.snapshot().rows("code_analyses")
    return json.loads(row["summary"])


def test_every_seeded_fault_is_found_at_its_line_in_its_section(work, analyse):
    analyse(FAULTY)
    found = {
        (row["rule"], row["source"], row["line_start"]): (row["section"], row["severity"]) for row in findings(work)
    }
    assert {place: found.get(place) for place in SEEDED} == SEEDED


def test_every_quote_is_the_line_it_names_and_no_line_lies_outside_the_file(work, analyse):
    analyse(FAULTY)
    rows = findings(work)
    assert len(rows) >= len(SEEDED)
    for row in rows:
        lines = FAULTY[row["source"].removeprefix("r/")].split("\n")
        assert lines[row["line_start"] - 1].strip() == row["quote"] != ""
        assert row["line_start"] <= row["line_end"] <= len(lines)
    [cycle] = [row for row in rows if row["rule"] == "import-cycle"]
    assert cycle["message"].endswith("r/shop/app.py → r/shop/rows.py → r/shop/app.py")
    [long] = [row for row in rows if row["rule"] == "long-function"]
    assert (long["line_end"], f"{LONG_FUNCTION + 2} lines" in long["message"]) == (LONG_FUNCTION + 2, True)


def test_a_repository_without_a_fault_has_no_finding(work, analyse):
    outcome = analyse({"a.py": '"""Adds."""\n\n\ndef add(one: int, other: int) -> int:\n    return one + other\n'})
    assert findings(work) == []
    assert outcome.metadata["findings"] == 0
    assert outcome.metadata["symbols"] == 1


def test_symbols_and_resolved_imports_are_stored_with_their_lines(work, analyse):
    analyse(FAULTY)
    snapshot = work.store.snapshot()
    symbols = {(row["source"], row["qualified"]): row for row in snapshot.rows("symbols")}
    assert [symbols["r/shop/app.py", name]["line_start"] for name in ("find", "run", "rate")] == [8, 13, 17]
    assert symbols["r/web/run.js", "show"]["line_end"] == 7
    imports = {(row["source"], row["target"]): (row["line"], row["resolved"]) for row in snapshot.rows("imports")}
    assert imports == {
        ("r/shop/app.py", "sqlite3"): (3, None),
        ("r/shop/app.py", "shop.rows"): (5, "r/shop/rows.py"),
        ("r/shop/rows.py", "shop.app"): (1, "r/shop/app.py"),
    }
    assert summary(work)["import_cycles"] == [["r/shop/app.py", "r/shop/rows.py"]]


def test_the_tools_tell_their_versions_and_how_much_they_read(work, analyse):
    analyse(FAULTY)
    runs = tools(work)
    assert {tool: run["version"] for tool, run in runs.items()} == tool_versions()
    assert (runs["tree-sitter"]["files_seen"], runs["ruff"]["files_seen"]) == (5, 4)
    assert all(run["files_parsed"] == run["files_seen"] for run in runs.values())


def test_a_password_in_code_is_found_and_not_repeated(work, analyse):
    analyse({"a.py": 'name = "ada"\npassword = "hunter-2-hunter"\n'})
    [row] = [row for row in findings(work) if row["rule"] == "S105"]
    assert (row["line_start"], row["quote"]) == (2, "password =")
    assert not any("hunter" in row["message"] + row["quote"] for row in findings(work))


CONFIGURATIONS = {
    "pyproject.toml": '[tool.ruff]\nexclude = ["*"]\n[tool.ruff.lint]\nselect = []\nignore = ["ALL"]\n',
    "ruff.toml": 'exclude = ["*"]\n[lint]\nselect = []\n',
    ".ruff.toml": "this is = = no configuration",
    "shop/ruff.toml": 'extend = "/etc/passwd"\n[lint]\nper-file-ignores = { "*" = ["ALL"] }\n',
    ".gitignore": "*.py\n",
}


def test_the_configuration_of_a_dropped_repository_hides_nothing(work, folder, analyse):
    analyse({"a.py": "x = 1\n"})
    analyse(FAULTY)
    unhidden = told(work)
    assert unhidden
    for name, content in CONFIGURATIONS.items():
        (folder / name).write_text(content)
        git(folder, "add", "--force", name)
    analyse({"a.py": "x = 2\n"})
    forced = Work(work.project, work.settings, work.store, force=True)
    assert climb(CODE_ANALYSES, forced).metadata["analysed"] == len(FAULTY) + 1
    assert told(work) == unhidden


def test_a_line_that_its_author_excused_with_noqa_is_taken_as_excused(work, analyse):
    analyse({"a.py": "eval(input())  # noqa: S307\n", "b.py": "eval(input())\n"})
    assert [row["source"] for row in findings(work) if row["rule"] == "S307"] == ["r/b.py"]


def test_faults_that_are_normal_in_a_test_are_not_told_of_tests(work, analyse):
    faults = "def check():\n    assert 1\n    password = 'hunter-2-hunter'\n    return password\n"
    analyse({"tests/test_a.py": faults, "a.py": faults})
    assert {row["source"] for row in findings(work)} == {"r/a.py"}


def test_vendored_and_generated_files_and_documents_are_not_analysed(work, analyse):
    analyse({"vendor/a.py": "eval(x)\n", "a_pb2.py": "eval(x)\n", "README.md": "eval(x)\n", "a.py": "print(1)\n"})
    assert [row["source"] for row in work.store.snapshot().rows("code_files")] == ["r/a.py"]
    assert findings(work) == []


def test_a_run_with_nothing_changed_reads_no_file_and_opens_no_writer(work, analyse, monkeypatch):
    first = analyse(FAULTY)
    assert first.changed
    generation = work.store.snapshot().generation
    monkeypatch.setattr(GitRepository, "blobs", lambda *_: pytest.fail("a file was read"))
    monkeypatch.setattr(ProjectStore, "publishing", lambda *_: pytest.fail("a writer was opened"))
    second = analyse()
    assert not second.changed
    assert second.version == first.version
    assert second.metadata["analysed"] == 0
    assert work.store.snapshot().generation == generation


def test_only_a_file_that_changed_is_analysed_again(work, analyse):
    analyse(FAULTY)
    before = {row["finding_id"] for row in findings(work) if row["source"] != "r/shop/long.py"}
    outcome = analyse({"shop/long.py": "def short(x):\n    return x\n"})
    assert outcome.metadata["analysed"] == 1
    assert {row["finding_id"] for row in findings(work)} == before


def test_a_finding_keeps_its_identifier_when_lines_are_inserted_above_it(work, analyse):
    analyse({"a.py": "import os\n\nos.abort()\neval(os.name)\n"})
    [before] = [row for row in findings(work) if row["rule"] == "S307"]
    analyse({"a.py": "import os\n\nos.abort()\n\n\neval(os.name)\n"})
    [after] = [row for row in findings(work) if row["rule"] == "S307"]
    assert after["finding_id"] == before["finding_id"]
    assert (before["line_start"], after["line_start"]) == (4, 6)


def test_the_findings_of_a_file_that_was_removed_disappear_and_so_does_its_circle(work, analyse):
    analyse(FAULTY)
    outcome = analyse({"shop/app.py": None})
    assert outcome.changed
    assert {row["source"] for row in findings(work)} == {"r/shop/long.py", "r/web/run.js"}
    snapshot = work.store.snapshot()
    for table in ("symbols", "imports", "code_files"):
        assert "r/shop/app.py" not in {row["source"] for row in snapshot.rows(table)}
    assert summary(work)["import_cycles"] == []
    # `from shop import app` means the package alone now.
    assert [row["resolved"] for row in snapshot.rows("imports")] == ["r/shop/__init__.py"]


def test_a_circle_that_was_broken_in_another_file_is_no_finding_any_more(work, analyse):
    analyse(FAULTY)
    analyse({"shop/rows.py": "def of(row):\n    return row\n"})
    assert "import-cycle" not in {row["rule"] for row in findings(work)}


def test_the_analysis_of_a_repository_that_is_gone_disappears(work, folder, analyse):
    analyse(FAULTY)
    folder.rename(Path(work.settings.state) / "elsewhere")
    analyse()
    snapshot = work.store.snapshot()
    for table in ("code_analyses", "code_findings", "symbols", "imports", "code_files"):
        assert snapshot.rows(table) == []


def test_the_worst_findings_come_first_in_the_summary(work, analyse):
    analyse(FAULTY)
    severities = {row["finding_id"]: Severity(row["severity"]) for row in findings(work)}
    ranks = [severities[name].rank for name in summary(work)["top_findings"]]
    assert ranks == sorted(ranks)
    assert len(ranks) == len(severities)


def test_what_a_run_that_did_not_commit_has_analysed_is_not_analysed_again(work, analyse):
    analyse({"a.py": "print(1)\n"})
    forced = Work(work.project, work.settings, work.store, force=True)
    plan = CODE_ANALYSES.plan(forced)
    for batch in plan.batches:
        CODE_ANALYSES.map(forced, batch)
    assert CODE_ANALYSES.plan(work).batches == []
    assert climb(CODE_ANALYSES, work).metadata["analysed"] == 0
    assert work.store.staging("code_analyses").names() == []
