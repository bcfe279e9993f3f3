"""A real PostgreSQL on a loopback port that the system chooses, thrown away afterwards; Debian's package postgresql."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAME = USER = "dagster"
PASSWORD = "of this test"


def _programs() -> Path | None:
    """The folder that holds all its programs: Debian keeps those of the server out of the PATH."""
    of_debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    in_path = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    whole = [place for place in (*of_debian, *in_path) if (place / "initdb").is_file() and (place / "psql").is_file()]
    return whole[0] if whole else None


PROGRAMS = _programs()


@dataclass
class Postgres:
    """A server that has a folder of its own; it can be stopped and started again on the same port."""

    folder: Path
    port: int

    @property
    def variables(self) -> Mapping[str, str]:
        """What the shipped dagster.yaml reads of it."""
        return {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_DB": NAME,
            "POSTGRES_USER": USER,
            "POSTGRES_PASSWORD": PASSWORD,
        }

    def create_database(self) -> None:
        """The database anew and empty."""
        with_password = os.environ | {"PGPASSWORD": PASSWORD}
        told = ["--host", "127.0.0.1", "--port", str(self.port), "--username", USER]
        for command in (["dropdb", "--if-exists", "--force"], ["createdb"]):
            subprocess.run([_program(command[0]), *command[1:], *told, NAME], env=with_password, check=True)

    def query(self, statement: str) -> str:
        """What the database says, a line for each row."""
        told = ["--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--dbname", NAME]
        command = [_program("psql"), *told, "--no-align", "--tuples-only", "--command", statement]
        environ = os.environ | {"PGPASSWORD": PASSWORD}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()

    def start(self) -> None:
        """Serve; ends when it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off"
        self._control("start", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """As its package does it: whoever is connected is cut off."""
        self._control("stop", "-m", "fast")

    def _control(self, *arguments: str) -> None:
        _run([_program("pg_ctl"), "--wait", "--timeout", "60", "-D", str(self.folder / "data"), *arguments])


@contextmanager
def serving() -> Iterator[Postgres]:
    """A server with a user that has a password, and an empty database; all of it goes with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not in the test's own folder, which nobody else may enter, and whose path may be too long for a socket's.
    folder = Path(tempfile.mkdtemp(prefix="cortex-postgres-"))
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, password):
                shutil.chown(path, _user().pw_uid, _user().pw_gid)
        served = Postgres(folder, port)
        how = ["--username", USER, "--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8"]
        _run([_program("initdb"), "-D", str(folder / "data"), "--no-sync", "--no-locale", *how])
        served.start()
        try:
            served.create_database()
            yield served
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                served._control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str:
    assert PROGRAMS is not None
    return str(PROGRAMS / name)


def _user() -> pwd.struct_passwd:
    """Whom the server runs as where the tests run as root, which it refuses."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _run(command: list[str]) -> None:
    who = {"user": _user().pw_uid, "group": _user().pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    # A file, since the server would keep a pipe open.
    with tempfile.TemporaryFile("w+") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=False, **who)
        log.seek(0)
        assert done.returncode == 0, log.read()[-2_000:]
