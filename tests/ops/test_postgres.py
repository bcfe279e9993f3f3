"""An instance on a real PostgreSQL, read from the file that is shipped: runs, two daemons, restarts, backup, upkeep."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from cortex_pipelines.running import run_project
from cortex_pipelines.settings import load_settings
from cortex_pipelines.store import ProjectStore
from cortex_pipelines.store.tables import TABLES
from tests.servers import postgres

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
BIN = Path(sys.executable).parent
OVERLAY = OPS / "docker-compose.default-launcher.yml"
SHIPPED = OPS / "dagster.postgres.default-launcher.yaml"
# On a machine that tests on all its cores, the waits for Dagster's own intervals add up.
pytestmark = [pytest.mark.heavy, pytest.mark.postgres, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.serving() as served:
        yield served


@dataclass
class Deployment:
    """What ops/docker-compose.yml starts, as processes: one code location, and daemons."""

    folder: Path
    environ: dict[str, str]
    server: postgres.Postgres
    port: int

    @contextmanager
    def process(self, name: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            kill(process, signal.SIGTERM)

    @contextmanager
    def code(self) -> Iterator[subprocess.Popen[bytes]]:
        """The code location, as the image starts it."""
        told = ["--host", "127.0.0.1", "--port", str(self.port), "--module-name", "cortex_pipelines.definitions"]
        with self.process("code", "dagster", "api", "grpc", *told) as process:
            until(lambda: listens(self.port), 60, self)
            yield process

    @contextmanager
    def daemon(self, name: str = "daemon", lock: str = "daemon.lock") -> Iterator[subprocess.Popen[bytes]]:
        """A daemon, as compose starts it; with a lock of its own as on another machine."""
        command = yaml.safe_load(OVERLAY.read_text())["services"]["daemon"]["command"]
        places = {"/data/logs/daemon.lock": lock, "/opt/dagster/workspace.yaml": "workspace.yaml"}
        with self.process(name, *(places.get(word, word) for word in command)) as process:
            yield process

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def statuses(self) -> list[str]:
        """Of every run, the oldest first."""
        return self.server.query("select status from runs order by id").splitlines()


def kill(process, how):
    if process.poll() is None:
        os.killpg(process.pid, how)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    # And what it started.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true, seconds, deployment):
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            logs = "\n".join(f"== {path.name}\n{path.read_text()[-3_000:]}" for path in deployment.folder.glob("*.log"))
            pytest.fail(f"not within {seconds} s; runs {deployment.statuses()}\n{logs}")
        time.sleep(0.3)


@pytest.fixture
def deployment(server, variables, tmp_path, monkeypatch):
    """The shipped instance on an empty database; only the port, the folders and intervals are the test's."""
    server.create_database()
    config = yaml.safe_load(SHIPPED.read_text().replace("/data/logs", str(tmp_path / "logs")))
    config["storage"]["postgres"]["postgres_db"]["port"] = server.port
    # Looked at every two minutes otherwise.
    config["run_monitoring"]["poll_interval_seconds"] = 5
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workspace = yaml.safe_load((OPS / "workspace.docker.yaml").read_text())
    workspace["load_from"][0]["grpc_server"] |= {"host": "127.0.0.1", "port": port}
    (tmp_path / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    own = {**variables, **server.variables, "DAGSTER_HOME": str(home)}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    path = f"{postgres.PROGRAMS}:{BIN}:{os.environ['PATH']}"
    return Deployment(tmp_path, {**os.environ, "PATH": path}, server, port)


def tables(settings, project="kestrel"):
    """What is published of a project; what a product was made from is told by versions, which are others each time."""
    snapshot = ProjectStore(settings.store, project, settings.state).snapshot()
    return {name: sorted(map(repr, snapshot.rows(name))) for name in TABLES.keys() - {"products"}}


def reports(settings, project="kestrel"):
    return {path.name for path in (settings.reports / project).iterdir()}


def whole(settings, folder, project="kestrel"):
    """Whether everything is there that a run makes which nothing disturbs."""
    variables = {f"CORTEX_{name}": str(folder / "undisturbed" / name) for name in ("STORE", "REPORTS", "STATE")}
    alone = load_settings({**variables, "CORTEX_INBOX": str(settings.inbox)}, env_file=None)
    run_project(project, alone)
    # Sensors ask for deep audits where there is something to read deeply.
    made = {name for name in reports(alone, project) if not name.startswith("deep_ingest")}
    return tables(settings, project) == tables(alone, project) and made <= reports(settings, project)


def drop(settings, project):
    """A small project, complete at once."""
    folder = settings.inbox / project
    made = settings.inbox.parent / f"{project}.being-made"
    made.mkdir()
    (made / "ferry.md").write_text(f"# Ferries of {project}\n\nThe ferry to Skagen leaves at seven every morning.\n")
    made.rename(folder)


def newest_run(deployment, project):
    """The status of a project's newest run, and its process, as it told itself."""
    of = f"from run_tags join runs using (run_id) where key = 'dagster/partition' and value = '{project}'"
    run_id, _, status = deployment.server.query(f"select run_id, status {of} order by runs.id desc limit 1").partition(
        "|"
    )
    said = deployment.server.query(f"select event from event_logs where run_id = '{run_id}'") if run_id else ""
    pids = re.findall(r"Started process for run \(pid: (\d+)\)", said)
    return status, int(pids[0]) if pids and "STEP_START" in said else 0


def drop_and_wait_for_its_process(deployment, settings, project):
    """The process of the run that was started for it, once it works."""
    drop(settings, project)
    until(lambda: newest_run(deployment, project)[1], 90, deployment)
    status, pid = newest_run(deployment, project)
    assert status == "STARTED"
    return pid


def claimed(deployment):
    """Places in pools that somebody holds or waits for."""
    slots = deployment.server.query("select count(*) from concurrency_slots where run_id is not null")
    return int(slots) + int(deployment.server.query("select count(*) from pending_steps"))


def test_an_empty_database_is_set_up_and_a_run_makes_every_product(deployment, sample, settings, tmp_path):
    # As an upgrade does it; the second time there is nothing to do.
    for _ in range(2):
        assert "Updating" in deployment.run("dagster", "instance", "migrate").stdout
    config = yaml.safe_load(SHIPPED.read_text())["concurrency"]
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("projects", ["kestrel"])
        assert instance.get_concurrency_config().pool_config.default_pool_limit == config["pools"]["default_limit"]
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 2
    materialize = ["dagster", "asset", "materialize", "--select", "*", "--partition", "kestrel"]
    materialize += ["-m", "cortex_pipelines.definitions"]
    deployment.run(*materialize)
    assert whole(settings, tmp_path)
    assert deployment.statuses() == ["SUCCESS"]
    # Pools have the shipped limit without anybody setting one.
    assert deployment.server.query('select distinct "limit" from concurrency_limits') == "2"
    assert claimed(deployment) == 0

    # Everything is lost, and comes back by what the command writes and the line that it prints.
    published, run = tables(settings), deployment.server.query("select run_id from runs")
    events = deployment.server.query("select count(*) from event_logs")
    told = deployment.run("cortex", "backup", "monday.tar").stderr
    dump, restore = re.findall(r"keep them with (pg_dump .*), bring them back with (pg_restore .*)", told)[0]
    with_password = deployment.environ | {"PGPASSWORD": postgres.PASSWORD}
    subprocess.run(["bash", "-ec", dump], env=with_password, cwd=tmp_path, check=True)
    for place in (settings.store, settings.reports, settings.state, deployment.environ["DAGSTER_HOME"]):
        shutil.rmtree(place)
    deployment.server.create_database()
    deployment.run("cortex", "restore", "monday.tar")
    subprocess.run(["bash", "-ec", restore], env=with_password, cwd=tmp_path, check=True)
    assert tables(settings) == published
    assert deployment.server.query("select run_id from runs") == run
    assert deployment.server.query("select count(*) from event_logs") == events
    assert "nothing changed" in deployment.run("cortex", "run").stdout

    # And the instance that came back works: a second run, after which the first may go, with all that it left.
    deployment.run(*materialize)
    assert deployment.statuses() == ["SUCCESS", "SUCCESS"]
    logs = tmp_path / "logs"
    first = [path for path in (logs / "storage" / run, logs / "compute" / run) if path.is_dir()]
    assert len(first) == 2
    pruned = json.loads(deployment.run("cortex", "prune", "--run-days", "0", "--json").stdout)
    assert pruned["runs"] == 1
    assert not any(path.exists() for path in first)
    assert deployment.server.query(f"select count(*) from event_logs where run_id = '{run}'") == "0"
    assert tables(settings) == published

    doctor = deployment.run("cortex", "doctor", "--no-servers").stdout
    assert re.search(r"ok +DAGSTER_HOME: .*, in PostgreSQL", doctor)
    assert re.search(rf"ok +PostgreSQL: 127.0.0.1:{deployment.server.port} answers", doctor)
    deployment.server.stop()
    try:
        broken = deployment.run("cortex", "doctor", "--no-servers", check=False)
    finally:
        deployment.server.start()
    assert broken.returncode == 1
    assert re.search(rf"fault +PostgreSQL: 127.0.0.1:{deployment.server.port} does not answer", broken.stdout)


def test_a_second_daemon_waits_and_one_of_another_machine_does_no_harm(deployment, settings, tmp_path):
    deployment.run("dagster", "instance", "migrate")
    with deployment.code(), deployment.daemon("first") as first, deployment.daemon("second"):
        until(lambda: "dropped_files" in deployment.log("first") + deployment.log("second"), 60, deployment)
        drop(settings, "harbour")
        until(lambda: deployment.statuses() == ["SUCCESS"], 90, deployment)
        # Whichever came later.
        assert "" in (deployment.log("first"), deployment.log("second"))
        if deployment.log("first"):
            kill(first, signal.SIGKILL)
            until(lambda: "dropped_files" in deployment.log("second"), 60, deployment)
        with deployment.daemon("third", "lock.of.another.machine"):
            until(lambda: "dropped_files" in deployment.log("third"), 60, deployment)
            drop(settings, "station")
            drop(settings, "airport")
            wanted = "select count(distinct value) from run_tags where key = 'dagster/partition'"
            until(lambda: deployment.server.query(wanted) == "3", 90, deployment)
            until(lambda: set(deployment.statuses()) == {"SUCCESS"}, 90, deployment)
            until(lambda: "Another" in deployment.log("first") + deployment.log("second"), 60, deployment)
        assert claimed(deployment) == 0
        # A drop may be asked for by both; not again by a later look.
        asked = deployment.server.query("select value, count(*) from run_tags where key = 'dagster/run_key' group by 1")
        assert all(row.endswith(("|1", "|2")) for row in asked.splitlines())
        # No daemon left work behind that somebody has to clear away.
        assert set(deployment.statuses()) == {"SUCCESS"}
    for project in ("harbour", "station", "airport"):
        assert whole(settings, tmp_path, project)


def test_what_was_cut_off_is_started_again_whatever_was_cut_off(deployment, settings, tmp_path):
    deployment.run("dagster", "instance", "migrate")
    with deployment.daemon():
        with deployment.code() as code:
            # The database is away for longer than Dagster tries to connect.
            drop_and_wait_for_its_process(deployment, settings, "harbour")
            deployment.server.stop()
            until(lambda: "too many retries for DB connection" in deployment.log("code"), 60, deployment)
            deployment.server.start()
            until(lambda: newest_run(deployment, "harbour")[0] == "SUCCESS", 120, deployment)

            # The process dies meanwhile: the code location, which would tell, cannot, and never tries again.
            pid = drop_and_wait_for_its_process(deployment, settings, "station")
            deployment.server.stop()
            os.kill(pid, signal.SIGKILL)
            until(lambda: "in _check_for_orphaned_runs" in deployment.log("code"), 60, deployment)
            deployment.server.start()
            assert newest_run(deployment, "station")[0] == "STARTED"
            until(lambda: newest_run(deployment, "station")[0] == "SUCCESS", 120, deployment)

            # The container of the code goes, and the run with it.
            drop_and_wait_for_its_process(deployment, settings, "airport")
            kill(code, signal.SIGKILL)
        with deployment.code():
            until(lambda: newest_run(deployment, "airport")[0] == "SUCCESS", 120, deployment)
            assert claimed(deployment) == 0
    assert set(deployment.statuses()) == {"SUCCESS", "FAILURE"}
    retried = "select count(*) from run_tags where key = 'dagster/retry_number' and value = '1'"
    assert deployment.server.query(retried) == str(deployment.statuses().count("FAILURE"))
    for project in ("harbour", "station", "airport"):
        assert whole(settings, tmp_path, project)
