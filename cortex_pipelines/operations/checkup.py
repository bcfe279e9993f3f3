"""Whether this installation can work: each thing it stands on, and the one line that mends it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from cortex_pipelines.errors import CortexError
from cortex_pipelines.names import Lane
from cortex_pipelines.operations.backup import stored_projects
from cortex_pipelines.operations.instance import Instance
from cortex_pipelines.operations.restore import OLD
from cortex_pipelines.projects import find_projects
from cortex_pipelines.settings import Settings
from cortex_pipelines.store import SCHEMA_VERSION, is_remote, publication, versions

PYTHONS = ((3, 11), (3, 14))
# Below the first a run of a small project may fail, below the second the next large one.
FREE_FAULT = 200 * 2**20
FREE_WARNING = 5 * 2**30
PORT = 3000
GGUF = b"GGUF"
# The versions of git whose plumbing is used here.
GIT = (2, 20)


class Verdict(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, and where it is not well, what mends it."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


def check_up(settings: Settings) -> list[Check]:
    """Everything that does not ask a server."""
    checks: list[Callable[[], Iterator[Check]]] = [
        _python,
        _packages,
        _git,
        lambda: _places(settings),
        lambda: _space(settings),
        lambda: _inbox(settings),
        lambda: _store(settings),
        lambda: _unfinished(settings),
        _instance,
        _port,
        lambda: _models(settings),
    ]
    return [check for look in checks for check in look()]


def check_lanes(settings: Settings) -> list[Check]:
    """Every server of every lane, which is asked what it is and for no token."""
    from cortex_pipelines.lanes import Lanes

    lanes = Lanes(settings)
    if not lanes.configured:
        return [Check("lanes", Verdict.OK, "no lane has a server: everything runs without a model")]
    from cortex_pipelines.lanes.client import run
    from cortex_pipelines.lanes.doctor import examine

    rows = []
    for one in run(examine(lanes, tokens=False)):
        if not one.endpoint:
            continue
        names = ", ".join(one.lanes)
        verdict = Verdict.FAULT if one.fault else Verdict.OK
        found = one.fault or f"{one.backend or 'a server'} {one.version or ''} serves {', '.join(one.served[:3])}"
        rows.append(Check(f"lane {names} at {one.endpoint}", verdict, " ".join(found.split()), one.fix))
    return rows


def _python() -> Iterator[Check]:
    found = ".".join(map(str, sys.version_info[:3]))
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        yield Check("python", Verdict.OK, found)
    else:
        yield Check("python", Verdict.FAULT, found, "make the environment anew with Python 3.11, 3.12 or 3.13")


def _packages() -> Iterator[Check]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = metadata.requires("cortex-pipelines") or []
    except metadata.PackageNotFoundError:
        yield Check("packages", Verdict.FAULT, "cortex-pipelines is not installed", "pip install -e .")
        return
    wrong = []
    for line in wanted:
        with suppress(InvalidRequirement):
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            try:
                found = metadata.version(needed.name)
            except metadata.PackageNotFoundError:
                wrong.append(f"{needed.name} is missing")
                continue
            if not needed.specifier.contains(found, prereleases=True):
                wrong.append(f"{needed.name} is {found}, not {needed.specifier}")
    if wrong:
        fix = "pip install --require-hashes -r requirements/run.txt"
        yield Check("packages", Verdict.FAULT, "; ".join(wrong[:5]), fix)
    else:
        yield Check("packages", Verdict.OK, f"cortex-pipelines {metadata.version('cortex-pipelines')}")


def _git() -> Iterator[Check]:
    try:
        told = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        found = told.split()[2]
        version = tuple(int(part) for part in found.split(".")[:2])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        yield Check("git", Verdict.FAULT, "git cannot be run", "install git, such as with apt install git")
        return
    if version < GIT:
        yield Check("git", Verdict.WARNING, found, f"install git {GIT[0]}.{GIT[1]} or newer")
    else:
        yield Check("git", Verdict.OK, found)


def _local(settings: Settings) -> dict[str, Path]:
    """The folders that are written, by the variable that names them."""
    folders = {"CORTEX_REPORTS": settings.reports, "CORTEX_STATE": settings.state}
    return folders if is_remote(settings.store) else {"CORTEX_STORE": Path(settings.store), **folders}


def _places(settings: Settings) -> Iterator[Check]:
    """Really tries: rights, read-only mounts and quotas are all told by a write."""
    for variable, folder in _local(settings).items():
        place = _nearest(folder)
        name = f"{variable} can be written"
        try:
            with tempfile.NamedTemporaryFile(prefix=".cortex-check-", dir=place) as file:
                file.write(b"x")
                file.flush()
            yield Check(name, Verdict.OK, str(folder) if folder.exists() else f"{folder}, which a run will make")
        except OSError as error:
            fix = f"give this user the right to write {place}, or set {variable} to another folder"
            yield Check(name, Verdict.FAULT, f"{folder}: {error.strerror}", fix)


def _space(settings: Settings) -> Iterator[Check]:
    places = _local(settings) | {"ARGOS_MODELS_DIR": settings.models_dir}
    if (files := Instance.of_environment().files) is not None:
        places["DAGSTER_HOME"] = files
    disks: dict[int, tuple[list[str], Path]] = {}
    for variable, folder in places.items():
        with suppress(OSError):
            place = _nearest(folder)
            disks.setdefault(place.stat().st_dev, ([], place))[0].append(variable)
    for variables, place in disks.values():
        with suppress(OSError):
            free = shutil.disk_usage(place).free
            worst = Verdict.FAULT if free < FREE_FAULT else Verdict.WARNING if free < FREE_WARNING else Verdict.OK
            fix = "" if worst is Verdict.OK else "run cortex prune, or free space on that disk"
            yield Check(f"disk of {', '.join(variables)}", worst, f"{free / 1e9:.1f} GB free", fix)


def _inbox(settings: Settings) -> Iterator[Check]:
    try:
        found = find_projects(settings.inbox)
    except CortexError as error:
        yield Check("inbox", Verdict.FAULT, f"{settings.inbox} is not there or cannot be read", str(error))
        return
    if found.refused:
        name, reason = next(iter(found.refused.items()))
        told = f"{len(found.projects)} projects; {name!r} is none, its name {reason}"
        yield Check("inbox", Verdict.WARNING, told, f"rename {name!r} in {settings.inbox}")
    elif not found.projects:
        fix = f"put a folder into {settings.inbox}, which becomes a project"
        yield Check("inbox", Verdict.WARNING, f"{settings.inbox} holds no project", fix)
    else:
        yield Check("inbox", Verdict.OK, f"{len(found.projects)} projects in {settings.inbox}")


def _store(settings: Settings) -> Iterator[Check]:
    """Whether what is published is there, of a schema that this code knows. LanceDB, which is slow, is not asked."""
    if is_remote(settings.store):
        yield from _remote_store(settings)
        return
    projects = stored_projects(settings.store)
    if not projects:
        yield Check("store", Verdict.OK, f"{settings.store} is empty: the first run makes it")
    for project in projects:
        yield _project(f"{settings.store.rstrip('/')}/{project}", project)


def _project(uri: str, project: str) -> Check:
    name = f"store of {project}"
    try:
        schema = versions.known(uri)
    except (CortexError, OSError) as error:
        fix = "update cortex-pipelines" if isinstance(error, versions.StoreTooNew) else f"remove {uri}/{versions.MARK}"
        return Check(name, Verdict.FAULT, str(error), fix)
    published = publication.read_copy(uri)
    if published is None:
        # No copy of the newest record: then there is no way around LanceDB.
        try:
            from cortex_pipelines.store.database import connect

            published = publication.read(connect(uri))
        except Exception as error:
            told = f"it does not open: {' '.join(str(error).split())[:200]}"
            return Check(name, Verdict.FAULT, told, "restore a backup: cortex restore FILE --force")
    if lost := publication.missing(uri, published):
        told = f"generation {published.generation} names versions that are not there, of {', '.join(lost)}"
        return Check(name, Verdict.FAULT, told, "restore a backup: cortex restore FILE --force")
    told = f"generation {published.generation}, {len(published.tables)} tables, schema {schema}"
    if schema < SCHEMA_VERSION and published.generation:
        fix = f"cortex run {project}: it takes the store over"
        return Check(name, Verdict.WARNING, f"{told}: this code writes {SCHEMA_VERSION}", fix)
    return Check(name, Verdict.OK, told)


def _remote_store(settings: Settings) -> Iterator[Check]:
    from cortex_pipelines.store import ProjectStore

    try:
        for project in settings.projects or find_projects(settings.inbox).projects[:1]:
            generation = ProjectStore(settings.store, project, settings.state).snapshot().generation
            yield Check(f"store of {project}", Verdict.OK, f"generation {generation}")
    except CortexError as error:
        yield Check("store", Verdict.FAULT, str(error), "mend AWS_* and CORTEX_STORE: see docs/settings.md")


def _unfinished(settings: Settings) -> Iterator[Check]:
    places = [*_local(settings).values(), settings.state / "lanes"]
    if (home := Instance.of_environment().home) is not None:
        places.append(home)
    for place in places:
        for left in place.glob(f"{OLD}*"):
            fix = "restore the backup again with --force, or move back what lies in that folder"
            yield Check("restore", Verdict.FAULT, f"a restore was cut short: {left} holds what was there", fix)


def _instance() -> Iterator[Check]:
    instance = Instance.of_environment()
    if instance.fault:
        yield Check(
            "DAGSTER_HOME", Verdict.FAULT, instance.fault, "create it with a dagster.yaml like ops/dagster.yaml"
        )
        return
    if instance.home is None:
        told = "not set: runs of Dagster are forgotten when they end; cortex run needs none"
        yield Check("DAGSTER_HOME", Verdict.OK, told)
        return
    # With runs in PostgreSQL the folder of the settings may be part of an image.
    for folder in {instance.files or instance.home, *(() if instance.postgres else (instance.home,))}:
        if not os.access(_nearest(folder), os.W_OK):
            yield Check("DAGSTER_HOME", Verdict.FAULT, f"{folder} cannot be written", "give this user the right")
            return
    if instance.postgres:
        yield from _database(instance)
    lacking = []
    if _of(instance, "telemetry", "enabled") is not False:
        lacking.append("telemetry: {enabled: false}")
    if _of(instance, "run_monitoring", "enabled") is not True:
        lacking.append("run_monitoring: {enabled: true}")
    if not _of(instance, "retention", "sensor"):
        lacking.append("retention: of ticks of sensors, which are kept for ever otherwise")
    if lacking:
        fix = f"copy these from ops/dagster.yaml into {instance.home / 'dagster.yaml'}"
        yield Check("DAGSTER_HOME", Verdict.WARNING, f"lacks {'; '.join(lacking)}", fix)
    else:
        yield Check(
            "DAGSTER_HOME", Verdict.OK, f"{instance.home}, in {'PostgreSQL' if instance.postgres else 'SQLite'}"
        )


def _database(instance: Instance) -> Iterator[Check]:
    """Whether something listens there; who it is, Dagster will tell."""
    if instance.address is None:
        return
    host, port = instance.address
    try:
        socket.create_connection((host, port), timeout=3.0).close()
        yield Check("PostgreSQL", Verdict.OK, f"{host}:{port} answers")
    except OSError as error:
        told = f"{host}:{port} does not answer: {error.strerror or error}"
        fix = f"start it, or mend storage in {instance.home}/dagster.yaml and the variables it names"
        yield Check("PostgreSQL", Verdict.FAULT, told, fix)


def _of(instance: Instance, group: str, name: str) -> object:
    found = instance.config.get(group)
    return found.get(name) if isinstance(found, dict) else None


def _port() -> Iterator[Check]:
    """The port that `make dev` serves on: free, or taken by a Dagster, or by something that would keep it from it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
            yield Check(f"port {PORT}", Verdict.OK, "free")
            return
        except OSError:
            pass
    holder = _listener(PORT) or "a process of another user"
    if _serves_dagster(PORT):
        yield Check(f"port {PORT}", Verdict.OK, f"Dagster answers there: {holder}")
    else:
        fix = "stop that process, or serve on another: dagster dev --port"
        yield Check(f"port {PORT}", Verdict.WARNING, f"in use by {holder}", fix)


def _serves_dagster(port: int) -> bool:
    from http.client import HTTPConnection, HTTPException

    asked = HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        asked.request("GET", "/server_info")
        return b"dagster_webserver_version" in asked.getresponse().read(4096)
    except (OSError, HTTPException):
        return False
    finally:
        asked.close()


def _listener(port: int) -> str:
    """The command that listens on a port, where the system tells."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError, IndexError, ValueError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{words[9]}]")
    for process in Path("/proc").glob("[0-9]*") if sockets else ():
        with suppress(OSError):
            if any(os.readlink(held) in sockets for held in (process / "fd").iterdir()):  # noqa: PTH115
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                return f"{command[:120]} (process {process.name})"
    return ""


def _models(settings: Settings) -> Iterator[Check]:
    for lane in Lane:
        if (path := settings.lanes[lane].model_path) is None:
            continue
        name, variable = f"model of {lane}", f"ARGOS_LANE_{lane}_MODEL_PATH"
        told = _not_a_model(path)
        if told:
            yield Check(name, Verdict.FAULT, f"{path} {told}", f"download it, or set {variable} to the file")
        else:
            yield Check(name, Verdict.OK, str(path))


def _not_a_model(path: Path) -> str:
    """What is wrong with a model's file or folder; empty where nothing is."""
    try:
        if path.is_dir():
            return "" if (path / "config.json").is_file() else "has no config.json"
        with path.open("rb") as file:
            return "" if file.read(len(GGUF)) == GGUF else "is no GGUF file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: where it would be made."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place
