"""A hub of models on the loopback that speaks what huggingface_hub asks of it, with a content server and faults."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Fault:
    """How the content of one file is served wrongly.

    `sent` are other bytes than those told of. After `cut` bytes the connection ends, or with `stall` hangs until the
    hub closes. `status` answers instead. `whole` ignores a Range. `times` is how often it happens.
    """

    sent: bytes | None = None
    cut: int | None = None
    stall: bool = False
    status: int | None = None
    whole: bool = False
    times: int = 1_000_000


@dataclass(frozen=True)
class Asked:
    """A request, as it came: to the `hub` itself or to the `content` server that it sends on to."""

    server: str
    method: str
    path: str
    range: str | None
    authorization: str | None
    encoding: str | None


@dataclass
class Hub:
    """What it holds, by repository and path. Files of 1,000 bytes and more are large ones, with a sha256.

    A gated repository wants the `token`; `hidden` files are in the listing and nowhere else.
    """

    repositories: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    token: str = "hf_good"
    faults: dict[str, Fault] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    listed_sizes: dict[str, int] = field(default_factory=dict)
    commit: str = COMMIT
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    content_url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def fetched(self, path: str) -> list[Asked]:
        """The requests for the bytes of a large file."""
        return [asked for asked in self.asked if asked.server == "content" and asked.path.endswith(f"/{path}")]

    def entry(self, path: str, content: bytes) -> dict[str, object]:
        """A file in a listing."""
        size = self.listed_sizes.get(path, len(content))
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        row: dict[str, object] = {"type": "file", "path": path, "size": size, "oid": blob}
        if len(content) >= 1_000:
            row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
        return row

    def fault(self, path: str) -> Fault | None:
        """The fault of a file, as often as it happens."""
        found = self.faults.get(path)
        if found is None or found.times <= 0:
            return None
        found.times -= 1
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    server_name: str

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.hub.asked.append(
            Asked(
                self.server_name,
                self.command,
                path,
                headers.get("Range"),
                headers.get("Authorization"),
                headers.get("Accept-Encoding"),
            )
        )
        parts = path.strip("/").split("/")
        if self.server_name == "content":
            self._content("/".join(parts[:2]), "/".join(parts[2:]))
        elif parts[0] == "api" and len(parts) != 6:
            self._send(404, b"", {})
        elif parts[0] == "api":
            self._api("/".join(parts[2:4]), parts[4], parts[5])
        else:
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _api(self, repository: str, what: str, revision: str) -> None:
        if self._refused(repository, revision, api=True):
            return
        files = self.hub.repositories[repository]
        if what == "revision":
            told: object = {"id": repository, "sha": self.hub.commit, "private": False, "siblings": []}
        else:
            told = [self.hub.entry(path, content) for path, content in files.items()]
            told = [{"type": "directory", "path": "folder", "oid": "0" * 40, "size": 0}, *told]
        self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        if self._refused(repository, revision, api=False):
            return
        content = self.hub.repositories[repository].get(path)
        if content is None or path in self.hub.hidden:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        row = self.hub.entry(path, content)
        told = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{row["oid"]}"', "Accept-Ranges": "bytes"}
        if "lfs" in row:
            linked = hashlib.sha256(content).hexdigest()
            told |= {"X-Linked-Etag": f'"{linked}"', "X-Linked-Size": str(row["size"])}
            self._send(302, b"", told | {"Location": f"{self.hub.content_url}/{repository}/{path}"})
        else:
            self._bytes(path, content, told)

    def _content(self, repository: str, path: str) -> None:
        self._bytes(path, self.hub.repositories[repository][path], {"Accept-Ranges": "bytes"})

    def _bytes(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        fault = self.hub.fault(path) or Fault()
        if fault.status:
            self._send(fault.status, b"", {})
            return
        content = content if fault.sent is None else fault.sent
        told = self.headers.get("Range")
        start = int(told.removeprefix("bytes=").rstrip("-")) if told and not fault.whole else 0
        if start and start >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        if start:
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._send(206 if start else 200, content[start:], headers, fault)

    def _refused(self, repository: str, revision: str, api: bool) -> bool:
        given = self.headers.get("Authorization")
        if repository not in self.hub.repositories:
            self._send(401 if not given else 404, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", self.hub.commit):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif repository in self.hub.gated and given != f"Bearer {self.hub.token}" and not api:
            self._send(403 if given else 401, b"", {"X-Error-Code": "GatedRepo"})
        else:
            return False
        return True

    def _send(self, status: int, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = fault.cut if fault else None
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            if fault and fault.stall:
                self.hub.closing.wait(60)
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error here."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, and its content server on another port, until the block ends."""
    servers = []
    for name in ("hub", "content"):
        handler = type("Handler", (_Handler,), {"hub": hub, "server_name": name})
        server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
    hub.url, hub.content_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        hub.closing.set()
        for server in servers:
            server.shutdown()
            server.server_close()
