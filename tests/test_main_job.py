"""The main job as people and CI run it: with the network cut, twice, by two at once, and on a store that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cortex_pipelines.products import PRODUCTS, build, write_report
from cortex_pipelines.running import run_project
from cortex_pipelines.stairs import Work
from cortex_pipelines.store import ProjectStore
from cortex_pipelines.store.tables import TABLES

CORTEX = str(Path(sys.executable).with_name("cortex"))


def cortex(variables, *arguments, before=(), cwd=None):
    return subprocess.run(
        [*before, CORTEX, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=cwd,
    )


def test_the_main_job_runs_with_the_network_cut(variables, sample, settings):
    # A network namespace of its own has no interface that is up, not even the loopback one.
    cut = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    done = cortex(variables, "run", "kestrel", before=cut)
    assert done.returncode == 0, done.stderr[-3_000:]
    for product in PRODUCTS:
        assert (settings.reports / "kestrel" / f"{product.name}.html").is_file()
    asked = cortex(variables, "ask", "-p", "kestrel", "How often does a receiver upload its readings?", before=cut)
    assert asked.returncode == 0
    assert "every 15 minutes" in asked.stdout
    assert "documents/faq.html:5" in asked.stdout


def test_a_second_run_says_that_nothing_changed_and_never_loads_the_database(sample, settings, variables):
    assert run_project("kestrel", settings).changed
    again = run_project("kestrel", settings)
    assert not again.changed
    assert again.quarantine == run_project("kestrel", settings).quarantine
    assert len(again.quarantine) == 2
    code = (
        "import sys; from cortex_pipelines.running import run_project; "
        "from cortex_pipelines.settings import load_settings; "
        "assert not run_project('kestrel', load_settings()).changed; "
        "print('lancedb' in sys.modules, 'pyarrow' in sys.modules)"
    )
    environ = os.environ | variables
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("lost", ["standing.json", "manifest.db"])
def test_local_state_that_is_lost_or_broken_is_made_again(sample, settings, lost):
    run_project("kestrel", settings)
    (settings.state / "kestrel" / lost).unlink()
    assert not run_project("kestrel", settings).changed
    (settings.state / "kestrel" / "standing.json").write_text("{broken")
    assert not run_project("kestrel", settings).changed


def test_a_report_that_was_deleted_is_written_again(sample, settings):
    run_project("kestrel", settings)
    (settings.reports / "kestrel" / "gap_report.md").unlink()
    assert not run_project("kestrel", settings).changed
    assert (settings.reports / "kestrel" / "gap_report.md").is_file()


def test_other_code_is_not_told_what_this_code_told(sample, settings, monkeypatch):
    work = Work("kestrel", settings, ProjectStore(settings.store, "kestrel", settings.state))
    [product] = [product for product in PRODUCTS if product.name == "ideas"]
    build(PRODUCTS[0], work)
    build(product, work)
    assert build(product, work).standing
    monkeypatch.setattr("cortex_pipelines.products.code_stamp", lambda: "other")
    assert not build(product, work).standing
    write_report(product, work, build(product, work))


def test_two_runs_at_once_on_one_project_both_end_well_and_lose_nothing(variables, sample, settings):
    running = [
        subprocess.Popen(
            [CORTEX, "run", "kestrel"],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=240), process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0], ended
    store = ProjectStore(settings.store, "kestrel", settings.state).snapshot()
    names = [row["chunk_id"] for row in store.rows("chunks", ["chunk_id"])]
    assert len(names) == len(set(names)) == sum(row["chunks"] for row in store.rows("indexed", ["chunks"]))
    assert store.count("documents") == 7
    assert not run_project("kestrel", settings).changed


@pytest.mark.parametrize(
    ("variable", "said"),
    [("CORTEX_STORE", "store"), ("CORTEX_STATE", "CORTEX_STATE"), ("CORTEX_REPORTS", "CORTEX_REPORTS")],
)
def test_a_folder_that_cannot_be_written_is_one_clear_line(variables, sample, tmp_path, variable, said):
    (tmp_path / "file").write_text("in the way")
    done = cortex({**variables, variable: str(tmp_path / "file" / "below")}, "run", "kestrel")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "rror" in line or said in line][-1:]
    assert said in line
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_one_clear_line_and_what_was_published_stays(variables, sample, settings):
    run_project("kestrel", settings)
    log = settings.inbox / "kestrel" / "logs" / "gateway.log"
    log.with_name("more.log").write_text(f"one more line\n{log.read_text()}")
    # A limit on the size of files stands for the disk: the write fails in the same place.
    done = cortex(variables, "run", "kestrel", before=["prlimit", "--fsize=200000"])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "run again" in done.stderr
    assert ProjectStore(settings.store, "kestrel", settings.state).snapshot().count("documents") == 7
    assert cortex(variables, "run", "kestrel").returncode == 0
    assert ProjectStore(settings.store, "kestrel", settings.state).snapshot().count("documents") == 8


def test_an_empty_and_a_missing_inbox_are_one_clear_line(variables, tmp_path):
    empty = cortex(variables, "run")
    missing = cortex({**variables, "CORTEX_INBOX": str(tmp_path / "nowhere")}, "run")
    for done in (empty, missing):
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
    assert "CORTEX_INBOX" in missing.stderr


@pytest.mark.heavy
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(variables, sample, settings, tmp_path):
    clean = variables | {f"CORTEX_{part}": str(tmp_path / "clean" / part) for part in ("STORE", "STATE", "REPORTS")}
    assert cortex(clean, "run", "kestrel").returncode == 0
    for moment in (1.0, 2.2, 3.0, 3.6, 4.2):
        process = subprocess.Popen([CORTEX, "run", "kestrel"], env=os.environ | variables, stderr=subprocess.DEVNULL)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert cortex(variables, "run", "kestrel").returncode == 0
    expected = ProjectStore(clean["CORTEX_STORE"], "kestrel", tmp_path / "clean" / "STATE").snapshot()
    found = ProjectStore(settings.store, "kestrel", settings.state).snapshot()
    for name, table in TABLES.items():
        if name != "products":
            key = [table.key]
            assert sorted(map(str, found.rows(name, key))) == sorted(map(str, expected.rows(name, key))), name
    reports = {path.name: path.read_text() for path in (settings.reports / "kestrel").glob("*.md")}
    assert reports == {
        path.name: path.read_text() for path in (tmp_path / "clean" / "REPORTS" / "kestrel").glob("*.md")
    }
