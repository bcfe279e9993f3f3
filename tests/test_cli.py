"""The `cortex` command at the seam people use: what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def notes(settings):
    """A small project of one note."""
    folder = settings.inbox / "notes"
    folder.mkdir()
    (folder / "harbour.md").write_text("# Harbour\n\nThe ferry to Skagen leaves at seven every morning.\n")
    return folder


def test_a_run_tells_what_it_read_and_where_the_reports_are_and_a_second_one_that_nothing_changed(
    cortex, notes, settings
):
    first = cortex("run")
    assert first.exit_code == 0, first.output
    assert "documents" in first.stdout
    assert str(settings.reports / "notes") in first.stdout
    assert (settings.reports / "notes" / "documents.html").is_file()
    second = cortex("run")
    assert second.exit_code == 0
    assert "nothing changed" in second.stdout


def test_ask_answers_with_the_place_and_says_so_when_the_sources_do_not_hold_it(cortex, notes):
    assert cortex("run").exit_code == 0
    answer = cortex("ask", "When does the ferry to Skagen leave?")
    assert answer.exit_code == 0, answer.output
    assert "harbour.md:3" in answer.stdout
    assert "seven every morning" in answer.stdout
    silent = cortex("ask", "Who won the chess championship?")
    assert silent.exit_code == 1
    assert "not found in the sources" in silent.stdout


def test_json_is_one_document_a_script_can_read(cortex, notes):
    summary = json.loads(cortex("run", "--json").stdout)
    assert summary[0]["project"] == "notes"
    assert summary[0]["changed"] is True
    hits = json.loads(cortex("search", "ferry", "--json").stdout)
    assert hits[0]["source"] == "harbour.md"
    answer = json.loads(cortex("ask", "When does the ferry to Skagen leave?", "--json").stdout)
    assert answer["found"] is True
    assert answer["citations"][0]["line_start"] == 3


def test_search_exits_with_1_when_there_is_nothing(cortex, notes):
    assert cortex("run").exit_code == 0
    (notes / "harbour.md").unlink()
    assert cortex("run").exit_code == 0
    assert cortex("search", "ferry").exit_code == 1


def test_a_missing_inbox_is_one_line(cortex, settings):
    settings.inbox.rmdir()
    result = cortex("run")
    assert result.exit_code == 2
    assert (
        result.stderr == f"cortex: the inbox {settings.inbox} is not a folder: create it, or set CORTEX_INBOX to one\n"
    )


def test_an_empty_inbox_is_one_line(cortex, settings):
    result = cortex("run")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"cortex: the inbox {settings.inbox} is empty")
    assert result.stderr.count("\n") == 1


def test_an_unknown_project_is_one_line(cortex):
    result = cortex("run", "nowhere")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "there is no project nowhere" in result.stderr


def test_a_name_that_is_no_project_name_is_refused(cortex):
    assert cortex("run", "../outside").exit_code == 2
    assert cortex("ask", "x", "-p", "../outside").exit_code == 2


def test_an_unknown_variable_is_named_with_what_was_meant(cortex, monkeypatch):
    monkeypatch.setenv("CORTEX_INBX", "x")
    result = cortex("projects")
    assert result.exit_code == 2
    assert "CORTEX_INBX" in result.stderr
    assert "did you mean CORTEX_INBOX?" in result.stderr


def test_projects_lists_them_and_says_why_a_folder_is_none(cortex, settings):
    for name in ("ok", "Twin", "twin", "bad name"):
        (settings.inbox / name).mkdir()
    listed = json.loads(cortex("projects", "--json").stdout)
    assert listed["projects"] == ["ok"]
    assert set(listed["refused"]) == {"Twin", "twin", "bad name"}


def test_settings_say_where_each_value_came_from_and_never_show_a_secret(cortex, monkeypatch):
    monkeypatch.setenv("ARGOS_LLM_API_KEY", "very-secret")
    result = cortex("settings")
    assert "very-secret" not in result.output
    shown = json.loads(cortex("settings", "--json").stdout)
    assert shown["CORTEX_INBOX"]["source"] == "environment"
    assert shown["CORTEX_EXECUTOR"] == {"value": "in_process", "source": "default"}
    assert "very-secret" not in json.dumps(shown)


def test_several_projects_need_a_choice(cortex, settings):
    for name in ("one", "two"):
        (settings.inbox / name).mkdir()
    result = cortex("ask", "anything?")
    assert result.exit_code == 2
    assert "one, two" in result.stderr


def test_the_command_is_installed_and_its_help_names_every_command(tmp_path):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cortex")), "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
        check=True,
    )
    for command in ("run", "search", "ask", "projects", "settings"):
        assert command in done.stdout


def test_a_selected_product_is_built_with_what_it_is_made_from_and_no_other(cortex, notes, settings):
    [told] = json.loads(cortex("run", "--select", "gap_report", "-s", "ideas", "--json").stdout)
    assert list(told["products"]) == [
        "documents",
        "repositories",
        "rag_index",
        "code_analyses",
        "gap_report",
        "ideas",
    ]
    assert not (settings.reports / "notes" / "roadmap.md").exists()
    unknown = cortex("run", "--select", "gaps")
    assert unknown.exit_code == 2
    assert unknown.stderr.startswith("cortex: there is no product gaps: choose of documents, ")
