"""The deployment: what the files promise, and then the whole of it on a real container engine."""

import http.server
import importlib.util
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef

from cortex_pipelines import __version__
from cortex_pipelines.names import Lane
from cortex_pipelines.settings import VARIABLES
from tests.ops.engine import IMAGE_TAG, Engine, make_images, own_engine

OPS = Path(__file__).parents[2] / "ops"
BASE, LOCAL_RUNS, PROXY = (
    "docker-compose.yml",
    "docker-compose.default-launcher.yml",
    "docker-compose.proxy.yml",
)
INSTANCES = ("dagster.postgres.yaml", "dagster.postgres.default-launcher.yaml")
ONE_SHOT = {"migrate"}
GIVEN = re.compile(r"\$\{(\w+)")
# What names a model's file, which a container does not have, and what the image holds no package for.
NOT_IN_CONTAINERS = re.compile(r"_MODEL_PATH$|^ARGOS_(LLAMA_CPP|DOWNLOAD|MODELS)_|^HF_TOKEN$|^CORTEX_CELERY_")
IMAGE_SETS = {"CORTEX_INBOX", "CORTEX_REPORTS", "CORTEX_STATE"}


def read(name):
    return yaml.safe_load((OPS / name).read_text())


def whole_services():
    """Each service that a file describes in whole: the overlay for local runs changes parts only."""
    return {name: service for file in (BASE, PROXY) for name, service in read(file)["services"].items()}


def launcher(name=INSTANCES[0]):
    return read(name)["run_launcher"]["config"]


SERVICES = pytest.mark.parametrize("name", whole_services())


@SERVICES
def test_each_service_is_no_root_and_writes_nowhere_but_in_volumes_and_tmp(name):
    service = whole_services()[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode", "devices"} & set(service)


@SERVICES
def test_each_service_has_limits_and_a_health_check_and_an_image_pinned_by_tag(name):
    service = whole_services()[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert ("healthcheck" in service) is (name not in ONE_SHOT)
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    tag = service["image"].split(":", 1)[1]
    assert "latest" not in tag
    # No host: images come from where the operator says.
    assert "/" not in service["image"]


@SERVICES
def test_ports_are_published_on_this_machine_only(name):
    for port in whole_services()[name].get("ports", []):
        assert re.match(r"127\.0\.0\.1:\d+:\d+$|\$\{PROXY_ADDRESS:-127\.0\.0\.1\}:\d+:\d+$", port)


def test_the_code_location_publishes_no_port():
    assert "ports" not in whole_services()["code"]


def test_only_the_daemon_has_the_engines_socket_and_the_overlay_takes_it_away():
    having = [
        name
        for name, service in whole_services().items()
        if any("docker.sock" in volume for volume in service.get("volumes", []))
    ]
    assert having == ["daemon"]
    # A mount is replaced by one at the same place.
    assert read(LOCAL_RUNS)["services"]["daemon"]["volumes"] == ["/dev/null:/var/run/docker.sock:ro"]


@pytest.mark.parametrize("name", [BASE, LOCAL_RUNS])
def test_a_second_daemon_waits_for_the_lock_in_a_volume_that_daemons_share(name):
    command = " ".join(read(name)["services"]["daemon"]["command"])
    assert "flock --no-fork /data/logs/daemon.lock dagster-daemon run" in command
    assert "logs:/data/logs" in whole_services()["daemon"]["volumes"]


@pytest.mark.parametrize("name", [BASE, LOCAL_RUNS, PROXY])
def test_no_secret_is_in_a_compose_file(name):
    for file_service in read(name)["services"].values():
        for variable, value in file_service.get("environment", {}).items():
            if any(word in variable for word in ("PASSWORD", "KEY", "TOKEN")):
                assert GIVEN.match(value), variable
    assert "POSTGRES_PASSWORD:?" in (OPS / BASE).read_text()


@pytest.mark.parametrize("path", sorted(OPS.rglob("*docker*")) + sorted(OPS.glob("dagster.postgres*")))
def test_no_file_names_a_registry_or_a_folder_of_somebodys_machine(path):
    text = path.read_text()
    assert not re.search(r"\b[\w-]+\.(io|com|org|net)\b", text)
    assert not re.search(r"/(home|root|Users|mnt)/", text)


def test_the_image_is_tagged_with_the_version():
    assert f"${{IMAGE_TAG:-{__version__}}}" in whole_services()["code"]["image"]
    # Else runs would be of another version than the code location that describes them.
    assert whole_services()["code"]["environment"]["DAGSTER_CURRENT_IMAGE"] == whole_services()["code"]["image"]


def test_the_two_instances_differ_in_their_launcher_only_and_keep_the_settings_of_make_dev():
    first, second = (read(name) for name in INSTANCES)
    assert first.pop("run_launcher")["class"] == "DockerRunLauncher"
    assert second.pop("run_launcher")["class"] == "DefaultRunLauncher"
    assert first == second
    own = {"storage", "local_artifact_storage", "compute_logs"}
    assert {name: value for name, value in first.items() if name not in own} == read("dagster.yaml")


@pytest.mark.parametrize("name", INSTANCES)
def test_dagster_takes_the_instance(name, tmp_path):
    # Without a version of dagster-postgres here, the storage is only looked at by the test on a real engine.
    (tmp_path / "dagster.yaml").write_text((OPS / name).read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["storage"]["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
    there = InstanceRef.from_dir(str(tmp_path)).run_launcher
    assert type(there).__name__ == read(name)["run_launcher"]["class"]


def test_a_run_gets_every_variable_from_a_daemon_that_has_it():
    wanted = launcher()["env_vars"]
    services = whole_services()
    assert len(wanted) == len(set(wanted))
    assert set(wanted) <= set(services["daemon"]["environment"])
    # What a step reads is the same in a run's container as in the code's.
    in_code = set(services["code"]["environment"]) - {"DAGSTER_CURRENT_IMAGE"}
    assert in_code == set(wanted)


def test_every_setting_that_means_something_in_a_container_is_handed_on():
    handed = {name for name in launcher()["env_vars"] if name in VARIABLES}
    assert handed == {name for name in VARIABLES if not NOT_IN_CONTAINERS.search(name)} - IMAGE_SETS
    assert {f"ARGOS_LANE_{lane}_URL" for lane in Lane} <= handed
    # And nothing that the command would refuse as unknown.
    for service in whole_services().values():
        for name in service.get("environment", {}):
            assert name in VARIABLES or not name.startswith(("CORTEX_", "ARGOS_"))


@pytest.mark.parametrize("name", INSTANCES)
def test_whoever_reads_the_instance_has_the_variables_it_names(name):
    named = {value["env"] for value in read(name)["storage"]["postgres"]["postgres_db"].values() if type(value) is dict}
    for service in ("migrate", "code", "webserver", "daemon", "webserver-readonly"):
        assert named <= set(whole_services()[service]["environment"]), service


def test_a_store_on_s3_is_a_matter_of_variables():
    read_by_a_client = {f"AWS_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION")}
    assert read_by_a_client | {"AWS_ENDPOINT_URL", "CORTEX_STORE"} <= set(launcher()["env_vars"])
    # Unset, the store is the volume, as the image says too.
    assert whole_services()["code"]["environment"]["CORTEX_STORE"] == "${CORTEX_STORE:-/data/store}"
    assert "CORTEX_STORE=/data/store" in (OPS / "Dockerfile").read_text()


def test_a_run_is_in_the_network_and_has_the_volumes_of_the_code_by_their_fixed_names():
    compose, config = read(BASE), launcher()
    assert config["network"] == compose["networks"]["default"]["name"]
    mounted = [volume.split(":")[:2] for volume in config["container_kwargs"]["volumes"]]
    of_code = [volume.split(":") for volume in compose["services"]["code"]["volumes"]]
    assert mounted == [[compose["volumes"][name]["name"], path] for name, path in of_code]


def test_a_run_is_as_shut_in_as_a_service():
    kwargs, code = launcher()["container_kwargs"], whole_services()["code"]
    for name in ("user", "read_only", "cap_drop", "security_opt", "init"):
        assert kwargs[name] == code[name], name
    assert kwargs["mem_limit"]
    assert kwargs["auto_remove"] is True


def test_the_image_installs_what_the_product_is_tested_with():
    def pins(name):
        return set(re.findall(r"^[\w.-]+==\S+", (OPS.parent / "requirements" / name).read_text(), re.MULTILINE))

    assert pins("run.txt") <= pins("deploy.txt")
    added = {pin.split("==")[0] for pin in pins("deploy.txt") - pins("run.txt")}
    assert {"dagster-k8s", "dagster-postgres", "psycopg2-binary"} <= added
    # Whatever the image has, the tests have too.
    assert pins("deploy.txt") <= pins("dev.txt")
    text = (OPS.parent / "requirements" / "deploy.txt").read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_every_variable_of_the_compose_files_is_in_the_documentation():
    told = (OPS.parent / "docs" / "deployment.md").read_text()
    used = {name for file in (BASE, LOCAL_RUNS, PROXY) for name in GIVEN.findall((OPS / file).read_text())}
    assert [name for name in sorted(used - set(VARIABLES)) if f"`{name}`" not in told] == []


@pytest.fixture
def health():
    spec = importlib.util.spec_from_file_location("health", OPS / "health.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_health_of_a_web_server_is_its_answer(health):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/well" else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert health.web(f"{url}/well") is None
        assert "500" in health.web(f"{url}/ill")
        server.shutdown()
    assert "does not answer" in health.web(url)


def test_the_health_of_an_engine_is_its_answer(health, tmp_path):
    path = Path(os.path.relpath(tmp_path / "s"))
    assert "no container engine" in health.engine(path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(256)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")

        threading.Thread(target=answer, daemon=True).start()
        assert health.engine(path) is None


def test_the_health_of_a_code_location_that_is_not_there_is_told(health):
    assert "does not answer" in health.code()


# From here on a real engine.

PROJECT = "cortex-test"
PASSWORD = "a/b:c@d e%f"
QUESTION, ANSWER = "When does the ferry to Skagen leave?", "leaves at seven"
DROP = (
    "mkdir -p /data/inbox/harbour && "
    "printf '# Ferries\\n\\nThe ferry to Skagen leaves at seven every morning.\\n' > /data/inbox/harbour/ferry.md"
)
real = [pytest.mark.docker, pytest.mark.heavy, pytest.mark.timeout(1_500)]


@pytest.fixture(scope="module")
def engine():
    with own_engine() as engine:
        make_images(engine)
        yield engine


class Deployment:
    """The compose files on an engine."""

    def __init__(self, engine: Engine, environ: dict[str, str]) -> None:
        self.engine, self.environ, self.files = engine, environ, [BASE]

    def compose(self, *arguments, check=True):
        files = [part for file in self.files for part in ("-f", file)]
        command = ["docker-compose", "--ansi", "never", "-p", PROJECT, *files, *arguments]
        return self.engine.run(*command, environ=self.environ, check=check)

    def up(self, *overlays):
        self.files = [BASE, *overlays]
        self.compose("up", "-d", "--no-build")
        deadline = time.monotonic() + 240
        while waiting := [name for name, state in self.states().items() if state not in ("healthy", "exited 0")]:
            assert time.monotonic() < deadline, f"{waiting}\n{self.logs()}"
            time.sleep(2)
        self.compose("ps")

    def states(self):
        ids = self.engine.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}", quiet=True)
        states = {}
        for container in json.loads(self.engine.docker("inspect", *ids.split(), quiet=True)):
            state = container["State"]
            told = (
                f"exited {state['ExitCode']}" if state["Status"] == "exited" else state.get("Health", {}).get("Status")
            )
            states[container["Config"]["Labels"]["com.docker.compose.service"]] = told
        return states

    def logs(self):
        return self.compose("logs", "--tail=30", check=False).stdout[-6_000:]

    def in_code(self, *command, check=True):
        return self.compose("exec", "-T", "code", *command, check=check)

    def answer(self, seconds=300):
        """What `cortex ask` says once the sensor saw the file and its run is done."""
        deadline = time.monotonic() + seconds
        ask = ("cortex", "ask", "-p", "harbour", QUESTION)
        while (told := self.in_code(*ask, check=False)).returncode != 0:
            assert time.monotonic() < deadline, self.logs()
            time.sleep(5)
        return told.stdout

    def run_containers(self):
        ids = self.engine.docker("ps", "-aq", "--filter", "label=dagster/run_id", quiet=True).split()
        return json.loads(self.engine.docker("inspect", *ids, check=False, quiet=True) or "[]") if ids else []

    def runs(self):
        asked = {"query": "{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }"}
        request = urllib.request.Request(
            "http://127.0.0.1:3000/graphql", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]["runsOrError"]["results"]

    def left(self):
        """All that is not the images and what an engine has from the start."""
        networks = self.engine.docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}")
        return [self.engine.docker("ps", "-aq"), self.engine.docker("volume", "ls", "-q"), networks]


@pytest.fixture
def deployment(engine, tmp_path):
    for name in ("admins", "readers"):
        hashed = subprocess.run(
            ["openssl", "passwd", "-apr1", name], capture_output=True, text=True, check=True
        ).stdout.strip()
        (tmp_path / name).write_text(f"{name}:{hashed}\n")
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    paths = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run([*key, *paths], check=True, capture_output=True)
    os.chown(tmp_path / "key.pem", 101, 101)
    environ = {
        "IMAGE_TAG": IMAGE_TAG,
        "POSTGRES_PASSWORD": PASSWORD,
        "DOCKER_SOCKET": str(engine.socket),
        "DOCKER_GID": str(engine.socket.stat().st_gid),
        "PROXY_CERTIFICATE": str(tmp_path / "certificate.pem"),
        "PROXY_KEY": str(tmp_path / "key.pem"),
        "PROXY_ADMINS": str(tmp_path / "admins"),
        "PROXY_READERS": str(tmp_path / "readers"),
    }
    deployment = Deployment(engine, environ)
    try:
        yield deployment
    finally:
        deployment.compose("down", "-v", "--remove-orphans", check=False)


class TestOnARealEngine:
    pytestmark = real

    def test_a_dropped_file_is_read_by_a_run_in_a_container_of_its_own_and_nothing_is_left_at_the_end(self, deployment):
        deployment.up()
        deployment.in_code("sh", "-c", DROP)
        deadline = time.monotonic() + 300
        while not (seen := deployment.run_containers()):
            assert time.monotonic() < deadline, deployment.logs()
            time.sleep(0.2)
        (container,) = seen
        run_id = container["Config"]["Labels"]["dagster/run_id"]
        host = container["HostConfig"]
        told = {
            name: host[name] for name in ("ReadonlyRootfs", "CapDrop", "SecurityOpt", "Memory", "NetworkMode", "Binds")
        }
        print(f"the container of run {run_id}: {container['Config']['Image']} {told}")
        assert container["Config"]["Image"] == f"cortex-pipelines:{IMAGE_TAG}"
        assert container["Config"]["User"] == "10001:10001"
        assert (host["ReadonlyRootfs"], host["Memory"], host["CapDrop"]) == (True, 4 * 2**30, ["ALL"])
        answer = deployment.answer()
        assert ANSWER in answer
        assert "ferry.md:3" in answer
        while deployment.run_containers():
            assert time.monotonic() < deadline, "the run's container stays"
            time.sleep(0.5)
        (run,) = deployment.runs()
        assert (run["runId"], run["status"]) == (run_id, "SUCCESS")
        deployment.compose("down", "-v")
        assert deployment.left() == ["", "", ""]

    def test_without_the_engines_socket_runs_are_processes_in_the_code_container(self, deployment):
        del deployment.environ["DOCKER_GID"], deployment.environ["DOCKER_SOCKET"]
        deployment.up(LOCAL_RUNS)
        deployment.in_code("sh", "-c", DROP)
        assert ANSWER in deployment.answer()
        (run,) = deployment.runs()
        assert "docker/container_id" not in [tag["key"] for tag in run["tags"]]

    def test_the_proxy_asks_who_it_is_and_its_readers_change_nothing(self, deployment):
        deployment.up(PROXY)
        status = proxy_status
        both = [(status(port, None), status(port, "admins"), status(port, "readers")) for port in (8443, 8444)]
        assert both == [(401, 200, 401), (401, 401, 200)]
        # A login that a browser sends along for another site.
        assert status(8443, "admins", {"Origin": "https://elsewhere.example"}) == 403
        assert status(8443, "admins", {"Origin": "https://127.0.0.1:8443"}) == 200
        assert add_project(8444, "readers") == "UnauthorizedError"
        assert add_project(8443, "admins") == "AddDynamicPartitionSuccess"


def proxy_answer(port, user, headers=None, body=None):
    headers = dict(headers or {})
    if user:
        headers["Authorization"] = "Basic " + b64encode(f"{user}:{user}".encode()).decode()
    trusting = ssl._create_unverified_context()
    url = f"https://127.0.0.1:{port}/{'graphql' if body else 'server_info'}"
    request = urllib.request.Request(url, body, headers)
    return urllib.request.urlopen(request, timeout=30, context=trusting)


def proxy_status(port, user, headers=None):
    try:
        with proxy_answer(port, user, headers) as answer:
            told = answer.status
    except urllib.error.HTTPError as error:
        told = error.code
    print(f"GET /server_info on {port} as {user or 'nobody'} with {headers or {}}: {told}")
    return told


def add_project(port, user):
    selector = '{repositoryName: "__repository__", repositoryLocationName: "cortex_pipelines"}'
    arguments = f'partitionsDefName: "projects", partitionKey: "quay", repositorySelector: {selector}'
    body = json.dumps({"query": f"mutation {{ addDynamicPartition({arguments}) {{ __typename }} }}"}).encode()
    with proxy_answer(port, user, {"Content-Type": "application/json"}, body) as answer:
        told = json.load(answer)["data"]["addDynamicPartition"]["__typename"]
    print(f"a mutation on {port} as {user}: {told}")
    return told
