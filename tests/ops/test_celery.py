"""Steps on a Celery worker: a real broker, a real worker in a process of its own, and the same products."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import redis

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.heavy, pytest.mark.redis]


@contextmanager
def worker(environ: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """A worker that takes steps, as docs/scaling.md starts one; its log."""
    command = [
        BIN / "dagster-celery",
        "worker",
        "start",
        "-A",
        "dagster_celery.app",
        "-y",
        ROOT / "ops" / "celery.yaml",
    ]
    log = folder / "worker.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environ, cwd=folder, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        until = time.monotonic() + 60
        while b" ready." not in log.read_bytes():
            assert process.poll() is None, log.read_text()[-2_000:]
            assert time.monotonic() < until, log.read_text()[-2_000:]
            time.sleep(0.2)
        yield log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_run_whose_steps_are_done_by_a_worker_makes_every_product(sample, variables, settings, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_bytes((ROOT / "ops" / "dagster.yaml").read_bytes())
    with redis.serving() as url:
        environ = variables | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "DAGSTER_HOME": str(home),
            "CORTEX_EXECUTOR": "celery",
            "CORTEX_CELERY_URL": url,
            "CORTEX_PROJECTS": "kestrel",
        }
        command = [BIN / "dagster", "asset", "materialize", "--select", "*", "--partition", "kestrel"]
        command += ["-m", "cortex_pipelines.definitions"]
        with worker(environ, tmp_path) as log:
            done = subprocess.run(
                command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
            )
            assert done.returncode == 0, done.stderr[-2_000:]
            assert log.read_text().count("Task execute_plan") > 9
    assert "R" in (settings.reports / "kestrel" / "gap_report.md").read_text()
    assert (settings.reports / "kestrel" / "roadmap.html").is_file()
