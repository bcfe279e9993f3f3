"""A container engine of the tests' own, and the images of the compose files in it, also where none can be pulled."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Kept from one run of the tests to the next: making it takes most of a minute.
CACHE = Path(tempfile.gettempdir()) / "cortex-docker-tests"
PYTHON, POSTGRES, NGINX = "python:3.11-slim-bookworm", "postgres:16-bookworm", "nginx:1.27-bookworm"
IMAGE_TAG = "test"
OWN_BASE = "cortex-test-base:bookworm"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SHOWN_LINES = 40


@dataclass(frozen=True)
class Engine:
    """An engine that runs, and how to ask it. What is asked is printed: `pytest -s` shows it as it goes."""

    socket: Path

    def run(
        self, *command: str, environ: dict[str, str] | None = None, check: bool = True, quiet: bool = False
    ) -> subprocess.CompletedProcess[str]:
        # The classic builder, which is all that Debian's package has.
        environ = os.environ | {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"} | (environ or {})
        began = time.monotonic()
        done = subprocess.run(
            command,
            env=environ,
            cwd=ROOT / "ops",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if not quiet:
            print(f"$ {' '.join(command)}    # {time.monotonic() - began:.0f} s, exit code {done.returncode}")
            lines = done.stdout.rstrip().splitlines()
            print(
                "\n".join(
                    [f"[{len(lines) - SHOWN_LINES} lines left out]"] * (len(lines) > SHOWN_LINES) + lines[-SHOWN_LINES:]
                )
            )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout[-4_000:]}"
        return done

    def docker(self, *arguments: str, check: bool = True, quiet: bool = False) -> str:
        return self.run("docker", *arguments, check=check, quiet=quiet).stdout.strip()


@contextmanager
def own_engine() -> Iterator[Engine]:
    """`dockerd` with its own data and socket, so that no deployment on this machine is touched. Ended at the end."""
    # Not in the test's folder: the path of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="cortex-engine-"))
    socket = folder / "docker.sock"
    command = ["dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--host=unix://{socket}"], stdout=log, stderr=log, start_new_session=True
        )
    try:
        engine = Engine(socket)
        deadline = time.monotonic() + 60
        while engine.run("docker", "info", check=False, quiet=True).returncode != 0:
            told = (folder / "log").read_text()[-3_000:]
            assert process.poll() is None, f"dockerd does not start:\n{told}"
            assert time.monotonic() < deadline, f"dockerd does not answer:\n{told}"
            time.sleep(0.5)
        yield engine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Mounts that the engine leaves behind.
        for mounted in (folder / "exec" / "netns").glob("*"):
            subprocess.run(["umount", str(mounted)], check=False, capture_output=True)
        shutil.rmtree(folder)


def make_images(engine: Engine) -> None:
    """What the compose files name: pulled where that is possible, else made from Debian's packages."""
    base = make_base(engine)
    build = ["docker", "build", "--quiet", "--network", "host", "--build-arg"]
    if any(engine.run("docker", "pull", "--quiet", image, check=False).returncode for image in (POSTGRES, NGINX)):
        servers = str(ROOT / "tests" / "ops" / "servers")
        engine.run(*build, f"BASE={base}", "--tag", POSTGRES, servers)
        engine.docker("tag", POSTGRES, NGINX)
    product = f"cortex-pipelines:{IMAGE_TAG}"
    engine.run(*build, f"BASE={base}", "--tag", product, "--file", str(ROOT / "ops" / "Dockerfile"), str(ROOT))


def make_base(engine: Engine) -> str:
    """The base of ops/Dockerfile."""
    if engine.run("docker", "pull", "--quiet", PYTHON, check=False).returncode == 0:
        return PYTHON
    archive = CACHE / "base.tar"
    if not archive.exists():
        _debian(engine, archive)
    engine.docker("import", str(archive), "cortex-debian:bookworm")
    # A layer that is thrown away with the engine: who this host trusts, for the packages that are installed.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(HOST_CERTIFICATES, Path(folder) / "host.crt")
        (Path(folder) / "Dockerfile").write_text(
            "FROM cortex-debian:bookworm\nCOPY host.crt /etc/ssl/host.crt\n"
            "ENV PIP_CERT=/etc/ssl/host.crt SSL_CERT_FILE=/etc/ssl/host.crt\n"
        )
        engine.docker("build", "--quiet", "--tag", OWN_BASE, folder)
    return OWN_BASE


def _debian(engine: Engine, archive: Path) -> None:
    """Debian 12, whose Python is 3.11 too, as an archive that an engine imports."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        packages = "--include=python3,python3-venv,ca-certificates,git,tesseract-ocr"
        engine.run("debootstrap", "--variant=minbase", packages, "bookworm", f"{folder}/root")
        engine.run("tar", "-C", f"{folder}/root", "-c", "-f", f"{folder}/base.tar", ".")
        # By name at last, so that half an archive is never taken for one.
        (Path(folder) / "base.tar").rename(archive)
