"""`cortex doctor`: each thing an installation stands on, broken, is told with what mends it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cortex_pipelines.operations import checkup
from cortex_pipelines.operations.checkup import Verdict, check_lanes, check_up
from cortex_pipelines.operations.instance import Instance
from cortex_pipelines.settings import load_settings
from cortex_pipelines.store import SCHEMA_VERSION, ProjectStore
from tests.store.test_store import publish

ROOT = Path(__file__).parents[2]
CORTEX = str(Path(sys.executable).with_name("cortex"))


@pytest.fixture
def store(settings):
    """A store with something in it, and its project in the inbox."""
    (settings.inbox / "p").mkdir()
    store = ProjectStore(settings.store, "p", settings.state)
    publish(store, a="1")
    return store


@pytest.fixture(autouse=True)
def quiet_port(monkeypatch):
    """A port of the test's own, which is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(checkup, "PORT", free.getsockname()[1])


def look(settings):
    return {check.name: check for check in check_up(settings)}


def ill(settings):
    """What is not well; all of it says what mends it."""
    found = {name: check for name, check in look(settings).items() if check.verdict is not Verdict.OK}
    assert all(check.fix and "\n" not in check.fix + check.found for check in found.values())
    return found


def test_a_good_installation_has_nothing_to_mend(store, settings, home):
    assert store.snapshot().generation == 1
    rows = look(settings)
    assert not ill(settings)
    assert rows["store of p"].found == f"generation 1, 1 tables, schema {SCHEMA_VERSION}"
    assert rows["DAGSTER_HOME"].found.endswith("in SQLite")
    assert {"python", "packages", "git", "inbox", "CORTEX_STATE can be written"} <= rows.keys()


def test_an_installation_before_its_first_run_is_no_fault(settings):
    (settings.inbox / "p").mkdir()
    assert not ill(settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="root may write anywhere but on a read-only file system")
def test_a_folder_that_cannot_be_written_is_a_fault(settings, variables):
    there = load_settings({**variables, "CORTEX_REPORTS": "/proc/reports"}, env_file=None)
    assert "set CORTEX_REPORTS to another folder" in ill(there)["CORTEX_REPORTS can be written"].fix


def test_a_file_in_the_way_is_a_fault(settings, variables, tmp_path):
    (tmp_path / "file").write_text("in the way")
    there = load_settings({**variables, "CORTEX_STATE": str(tmp_path / "file")}, env_file=None)
    assert ill(there)["CORTEX_STATE can be written"].verdict is Verdict.FAULT


def test_a_disk_that_is_nearly_full_is_told(settings, monkeypatch):
    for free, verdict in ((10 * 2**20, Verdict.FAULT), (2**30, Verdict.WARNING)):
        usage = shutil.disk_usage("/")._replace(free=free)
        monkeypatch.setattr(checkup.shutil, "disk_usage", lambda place, usage=usage: usage)
        [name] = [name for name in ill(settings) if name.startswith("disk of CORTEX_STORE")]
        assert ill(settings)[name].verdict is verdict


def test_the_inbox_is_looked_at(settings):
    assert ill(settings)["inbox"].verdict is Verdict.WARNING
    (settings.inbox / "bad name").mkdir()
    assert "'bad name'" in ill(settings)["inbox"].fix
    shutil.rmtree(settings.inbox)
    assert ill(settings)["inbox"].verdict is Verdict.FAULT


def test_a_store_that_lost_files_or_is_of_other_code_is_told(store, settings):
    assert store.snapshot().generation == 1
    mark = Path(store.uri, "schema.json")
    good = mark.read_text()
    mark.write_text('{"schema": 99}')
    assert "update cortex-pipelines" in ill(settings)["store of p"].fix
    mark.write_text("{broken")
    assert "remove" in ill(settings)["store of p"].fix
    mark.unlink()
    assert ill(settings)["store of p"].verdict is Verdict.WARNING
    mark.write_text(good)
    assert "store of p" not in ill(settings)
    for manifest in Path(store.uri, "documents.lance", "_versions").iterdir():
        manifest.unlink()
    assert "cortex restore" in ill(settings)["store of p"].fix
    shutil.rmtree(Path(store.uri, "publications.lance"))
    Path(store.uri, "publications.lance").write_text("in the way")
    assert look(settings)["store of p"].verdict in (Verdict.OK, Verdict.FAULT)


def test_a_restore_that_was_cut_short_is_a_fault(store, settings):
    Path(settings.store, ".cortex-old-x").mkdir()
    assert "restore the backup again with --force" in ill(settings)["restore"].fix


def test_the_instance_is_looked_at(settings, home, monkeypatch):
    (home / "dagster.yaml").write_text("run_monitoring: {enabled: true}\n")
    found = ill(settings)["DAGSTER_HOME"]
    assert found.verdict is Verdict.WARNING
    assert "telemetry" in found.found
    assert "retention" in found.found
    assert "run_monitoring" not in found.found
    (home / "dagster.yaml").write_text("{broken\n")
    assert ill(settings)["DAGSTER_HOME"].verdict is Verdict.FAULT
    monkeypatch.setenv("DAGSTER_HOME", str(home / "nowhere"))
    assert ill(settings)["DAGSTER_HOME"].verdict is Verdict.FAULT


def test_a_database_of_runs_that_does_not_answer_is_a_fault(settings, home, monkeypatch):
    shipped = ROOT / "ops" / "dagster.postgres.default-launcher.yaml"
    logs = home.parent / "logs"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        config = shipped.read_text().replace("/data/logs", str(logs)).replace("port: 5432", f"port: {port}")
        (home / "dagster.yaml").write_text(config)
        monkeypatch.setenv("POSTGRES_HOST", "127.0.0.1")
        found = ill(settings)
        assert found["PostgreSQL"].verdict is Verdict.FAULT
        assert f"127.0.0.1:{port} does not answer" in found["PostgreSQL"].found
        assert "DAGSTER_HOME" not in found
        taken.listen()
        assert "PostgreSQL" not in ill(settings)


@pytest.mark.skipif(not Path("/proc/sys").is_dir() or os.access("/proc/sys", os.W_OK), reason="it can be written")
def test_a_home_that_cannot_be_written_is_a_fault_unless_runs_and_files_are_elsewhere(settings, home, monkeypatch):
    """In the image it is part of the file system, which is read-only."""
    monkeypatch.setenv("DAGSTER_HOME", "/proc/sys")
    assert "/proc/sys cannot be written" in ill(settings)["DAGSTER_HOME"].found
    there = Instance(
        Path("/proc/sys"), {"storage": {"postgres": {}}, "local_artifact_storage": {"config": {"base_dir": str(home)}}}
    )
    monkeypatch.setattr(Instance, "of_environment", lambda: there)
    assert "cannot be written" not in ill(settings)["DAGSTER_HOME"].found


def test_who_holds_the_port_is_told(settings, monkeypatch):
    script = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
    holder = subprocess.Popen([sys.executable, "-c", f"{script}sys.stdin.read()"], stdin=-1, stdout=-1, text=True)
    try:
        monkeypatch.setattr(checkup, "PORT", int(holder.stdout.readline()))
        found = ill(settings)[f"port {checkup.PORT}"]
    finally:
        holder.communicate("")
    assert found.verdict is Verdict.WARNING
    assert f"(process {holder.pid})" in found.found


def test_models_on_the_disk_are_looked_at(settings, variables, tmp_path):
    model = tmp_path / "model.gguf"

    def found():
        there = load_settings({**variables, "ARGOS_LANE_CODER_MODEL_PATH": str(model)}, env_file=None)
        return look(there)["model of CODER"]

    assert "ARGOS_LANE_CODER_MODEL_PATH" in found().fix
    model.write_text("<html>not found</html>")
    assert "is no GGUF file" in found().found
    model.write_bytes(b"GGUF and more")
    assert found().verdict is Verdict.OK


def test_servers_are_asked_what_they_are(settings, variables):
    assert check_lanes(settings)[0].verdict is Verdict.OK
    away = load_settings({**variables, "ARGOS_LANE_CODER_URL": "http://127.0.0.1:9"}, env_file=None)
    [row] = check_lanes(away)
    assert row.verdict is Verdict.FAULT
    assert "start the server at" in row.fix


def test_the_command_is_quick_and_exits_with_1_at_a_fault(store, variables, settings):
    assert store.snapshot().generation == 1
    environ = os.environ | variables
    call = [CORTEX, "doctor", "--json"]
    took = []
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run(call, env=environ, capture_output=True, text=True, timeout=60, check=False)
        took.append(time.monotonic() - began)
    assert done.returncode == 0, done.stdout
    rows = json.loads(done.stdout)
    assert all(set(row) == {"name", "verdict", "found", "fix"} for row in rows)
    assert min(took) < 2.0
    shutil.rmtree(settings.inbox)
    done = subprocess.run([CORTEX, "doctor"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "fault    inbox: " in done.stdout
    assert "set CORTEX_INBOX" in done.stdout
