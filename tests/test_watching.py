"""`cortex watch` as a process: what lands is answered once it rests, whatever else goes wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from cortex_pipelines.ingest.manifest import Manifest
from cortex_pipelines.ingest.scan import QUIET_SECONDS, scan
from cortex_pipelines.store import ProjectStore
from tests.ingest.test_changes import limited

CORTEX = str(Path(sys.executable).with_name("cortex"))
pytestmark = pytest.mark.heavy

# On a machine that tests on all its cores at once.
PATIENCE = 60.0


class Watcher:
    """A running `cortex watch --json`, and what it has printed."""

    def __init__(self, process, log):
        self.process = process
        self.log = log

    def events(self, event, **fields):
        """The lines of an event with these fields."""
        rows = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [row for row in rows if row["event"] == event and fields.items() <= row.items()]

    def wait_for(self, event, number=0, **fields):
        """The line of an event with these fields that comes after `number` others."""
        deadline = time.monotonic() + PATIENCE
        while len(found := self.events(event, **fields)) <= number and time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        assert len(found) > number, f"no {event} {fields} in\n{self.log.read_text()}"
        return found[number]


@pytest.fixture
def watch(variables, tmp_path):
    """Starts `cortex watch --json`; at the end it has to stop as it should."""

    @contextmanager
    def start(*arguments, within=None, stop=signal.SIGTERM):
        log = tmp_path / f"watch-{time.monotonic_ns()}.log"
        command = [CORTEX, "watch", "--json", *arguments]
        with log.open("wb") as out:
            process = subprocess.Popen(
                within(command) if within else command, env=os.environ | variables, cwd=tmp_path, stdout=out
            )
            watcher = Watcher(process, log)
            try:
                watcher.wait_for("watching")
                yield watcher
                process.send_signal(stop)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
                process.wait()

    return start


@pytest.fixture
def ask(variables, tmp_path):
    def call(question):
        command = [CORTEX, "ask", "-p", "harbour", question]
        return subprocess.run(
            command, env=os.environ | variables, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return call


def test_a_file_is_answered_once_it_has_come_to_rest_and_not_before_whatever_else_goes_wrong(watch, ask, settings):
    (settings.inbox / "broken").mkdir()
    (settings.inbox / "broken" / "a.md").write_text("# A\n")
    Path(settings.store).mkdir()
    (Path(settings.store) / "broken").write_text("no folder")
    path = settings.inbox / "harbour" / "ferries.md"
    asked = threading.Event()

    def copy_slowly():
        with path.open("w") as file:
            while not asked.wait(0.5):
                file.write("The ferry to Laeso is blue.\n\n")
                file.flush()
            file.write("The ferry to Skagen leaves at seven every morning.\n")

    with watch() as watcher:
        path.parent.mkdir()
        (path.parent / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
        copying = threading.Thread(target=copy_slowly)
        copying.start()
        first = watcher.wait_for("run", project="harbour")
        assert [row["path"] for row in first["quarantine"]] == ["broken.pdf"]
        early = ask("Which colour does the ferry to Laeso have?")
        asked.set()
        assert early.returncode == 1, early.stdout
        copying.join()
        rested = time.time()
        second = watcher.wait_for("run", project="harbour", number=1)
        assert QUIET_SECONDS - 0.5 < datetime.fromisoformat(second["at"]).timestamp() - rested < QUIET_SECONDS + 30
        told = ask("When does the ferry to Skagen leave?")
        assert "leaves at seven" in told.stdout
        assert watcher.wait_for("error", project="broken")["error"]
        (Path(settings.store) / "broken").unlink()
        # It is tried again when something lands, and once a minute.
        (settings.inbox / "broken" / "b.md").write_text("# B\n")
        run = watcher.wait_for("run", project="broken")
        assert run["products"]["documents"]["metadata"]["documents"] == 2


def test_two_may_watch_at_once_one_of_them_told_of_nothing(watch, settings):
    (settings.inbox / "harbour").mkdir()
    (settings.inbox / "harbour" / "a.md").write_text("# A\n")
    # As a run leaves it that was killed when it had looked at the folder.
    with Manifest(settings.state / "harbour" / "manifest.db") as manifest:
        scan(settings.inbox / "harbour", manifest)
    # It looks changed after every run, and is no reason for another one.
    tomorrow = time.time() + 24 * 3_600
    os.utime(settings.inbox / "harbour" / "a.md", (tomorrow, tomorrow))
    if limited("max_inotify_instances", 0, "true") is None:
        pytest.skip("this machine lets nobody have a user namespace")
    with (
        watch("harbour", stop=signal.SIGINT) as first,
        watch(within=lambda command: limited("max_inotify_instances", 0, *command)) as second,
    ):
        first.wait_for("run", project="harbour")
        second.wait_for("run", project="harbour")
        assert "fs.inotify.max_user_instances" in second.wait_for("warning")["error"]
        for name in ("harbour", "nova"):
            (settings.inbox / name).mkdir(exist_ok=True)
            (settings.inbox / name / "b.md").write_text("# B\n")
        second.wait_for("run", project="nova")
        deadline = time.monotonic() + PATIENCE
        store = ProjectStore(settings.store, "harbour", settings.state)
        while store.snapshot().count("documents") < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert sorted(row["path"] for row in store.snapshot().rows("documents", ["path"])) == ["a.md", "b.md"]
        assert [*first.events("error"), *second.events("error")] == []
        assert (first.events("warning"), len(second.events("warning"))) == ([], 1)
        assert first.events("run", project="nova") == []
        assert len(second.events("run", project="harbour")) <= 3


def test_a_project_that_is_not_there_is_one_line(variables, tmp_path):
    done = subprocess.run(
        [CORTEX, "watch", "nowhere"],
        env=os.environ | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no project nowhere" in done.stderr
