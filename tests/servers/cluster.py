"""The few calls of the Kubernetes API that a launcher makes, on a loopback port; a pod is a process of this machine.

What is posted has to be right by the schemas of Kubernetes. A container's variables are those of its image, of the
ConfigMaps and Secrets it names and its own; a path in them is where the pod mounts a volume, or the pod is refused.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

# Of 2025 and still kept up.
VERSION = "1.34"
BIN = Path(sys.executable).parent
_PATH = re.compile(
    r"/(?:apis/batch|api)/v1/namespaces/(?P<space>[\w-]+)/(?P<kind>\w+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>\w+))?"
)
_VERBS = {"POST": "create", "DELETE": "delete"}

Object = dict[str, Any]


class Refused(Exception):
    """What the cluster says no to."""


@dataclass
class Cluster:
    """A cluster's objects, and what was asked of it as `resource verb`."""

    folder: Path
    image: Mapping[str, str]
    config_maps: Mapping[str, Mapping[str, str]]
    secrets: Mapping[str, Mapping[str, str]]
    claims: set[str]
    jobs: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, name: str) -> Path:
        """The folder of a volume that pods share."""
        place = self.folder / "claims" / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def log(self, name: str) -> str:
        """What a pod printed."""
        return (self.folder / "pods" / name / "log").read_text(errors="replace")

    def create(self, job: Object) -> Object:
        """Take a job, and start its pod."""
        kubernetes_validate.validate(job, VERSION, strict=True)
        name = job["metadata"]["name"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **job["spec"]["template"]["metadata"],
                "name": name,
                "uid": str(uuid.uuid4()),
                "labels": {**job["spec"]["template"]["metadata"].get("labels", {}), "job-name": name},
            },
            "spec": job["spec"]["template"]["spec"],
        }
        kubernetes_validate.validate(pod, VERSION, strict=True)
        with self.lock:
            if name in self.jobs:
                raise Refused(f"job {name} is there already")
            self.jobs[name], self.pods[name] = {**job, "status": {"active": 1}}, {**pod, "status": _status(pod, None)}
            self.processes[name] = self._start(name, pod)
        threading.Thread(target=self._wait, args=[name], daemon=True).start()
        return self.jobs[name]

    def delete(self, kind: str, name: str) -> None:
        """Take an object away; the pod that goes with it ends."""
        with self.lock:
            objects = self.jobs if kind == "jobs" else self.pods
            if name not in objects:
                raise Refused(f"no {kind} {name}")
            del objects[name]
        _end(self.processes[name])

    def _wait(self, name: str) -> None:
        code = self.processes[name].wait()
        with self.lock:
            if name in self.jobs:
                self.jobs[name]["status"] = {"failed": 1} if code else {"succeeded": 1}
            if name in self.pods:
                self.pods[name]["status"] = _status(self.pods[name], code)

    def _start(self, name: str, pod: Object) -> "subprocess.Popen[bytes]":
        (container,) = pod["spec"]["containers"]
        place = self.folder / "pods" / name
        place.mkdir(parents=True)
        volumes = {volume["name"]: self._volume(place, volume) for volume in pod["spec"].get("volumes", [])}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container.get("volumeMounts", [])}
        environ = {
            variable: _mounted(variable, value, mounts) for variable, value in self._variables(container, name).items()
        }
        environ |= {"PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(mounts["/tmp"])}
        with (place / "log").open("wb") as log:
            return subprocess.Popen(
                container["args"],
                env=environ,
                cwd=mounts["/tmp"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _volume(self, place: Path, volume: Object) -> Path:
        if claimed := volume.get("persistentVolumeClaim"):
            if claimed["claimName"] not in self.claims:
                raise Refused(f"no claim {claimed['claimName']}")
            return self.claim(claimed["claimName"])
        if "emptyDir" not in volume:
            raise Refused(f"volume {volume['name']} is of no kind that is known here")
        empty = place / str(volume["name"])
        empty.mkdir()
        return empty

    def _variables(self, container: Object, name: str) -> dict[str, str]:
        found = {**self.image, "HOSTNAME": name}
        for source in container.get("envFrom", []):
            for kind, objects in (("configMapRef", self.config_maps), ("secretRef", self.secrets)):
                if kind in source:
                    if source[kind]["name"] not in objects:
                        raise Refused(f"no {kind} {source[kind]['name']}")
                    found |= objects[source[kind]["name"]]
        for variable in container.get("env", []):
            told = variable.get("valueFrom")
            assert told in (None, {"fieldRef": {"fieldPath": "metadata.namespace"}}), told
            found[variable["name"]] = "default" if told else variable["value"]
        return found


def _status(pod: Object, code: int | None) -> Object:
    """The status of a pod whose container ended with a code, or runs."""
    (container,) = pod["spec"]["containers"]
    state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
    told = {"image": container["image"], "imageID": "", "ready": code is None, "restartCount": 0, "state": state}
    phase = "Running" if code is None else "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [{"name": container["name"], **told}]}


def _mounted(variable: str, value: str, mounts: Mapping[str, Path]) -> str:
    for path, place in mounts.items():
        if value == path or value.startswith(f"{path}/"):
            return f"{place}{value[len(path) :]}"
    if value.startswith("/data/"):
        raise Refused(f"{variable}={value}, where nothing is mounted")
    return value


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def serving(cluster: Cluster) -> Iterator[Path]:
    """The file that tells clients of the cluster; its pods end with the block."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            place = urlsplit(self.path)
            matched = _PATH.fullmatch(place.path)
            assert matched, self.path
            kind, name, sub = matched["kind"], matched["name"], matched["sub"]
            verb = _VERBS.get(self.command) or ("get" if name else "list")
            cluster.asked.add(f"{kind}{'/' + sub if sub else ''} {verb}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                told = self._told(verb, kind, name, sub, parse_qs(place.query), body)
            except KeyError as error:
                self._send({"kind": "Status", "message": f"no {kind} {error}"}, 404)
            except (Refused, kubernetes_validate.ValidationError) as error:
                self._send({"kind": "Status", "message": str(error)}, 422)
            else:
                self._send(told)

        def _told(self, verb: str, kind: str, name: str, sub: str, query: Object, body: bytes) -> Any:
            if verb == "create":
                return cluster.create(json.loads(body))
            if verb == "delete":
                cluster.delete(kind, name)
                return {"kind": "Status", "status": "Success"}
            if sub == "log":
                return cluster.log(name)
            objects = {"jobs": cluster.jobs, "pods": cluster.pods, "events": {}}[kind]
            if verb == "get":
                return objects[name]
            (wanted,) = query.get("labelSelector") or query["fieldSelector"]
            return {"items": [one for key, one in objects.items() if key == wanted.partition("=")[2]]}

        def _send(self, told: Any, status: int = 200) -> None:
            content = told.encode() if isinstance(told, str) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(told, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
        }
        cluster.folder.mkdir(parents=True, exist_ok=True)
        path = cluster.folder / "kubeconfig"
        path.write_text(json.dumps(config))
        try:
            yield path
        finally:
            for process in cluster.processes.values():
                _end(process)
            server.shutdown()
