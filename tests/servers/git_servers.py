"""Real git servers on loopback ports: git's daemon, and its program for the web behind TLS."""

import os
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """The address of git's daemon over the repositories of a folder."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            command = ["git", "daemon", "--inetd", "--export-all", f"--base-path={folder}", str(folder)]
            pipe = self.request.fileno()
            subprocess.run(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=ENVIRONMENT, check=False)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as server, _serving(server):
        yield f"127.0.0.1:{server.server_address[1]}"


@dataclass
class Web:
    """A web server of repositories: its address, the file of its certificate, and what it was asked with."""

    place: str = ""
    certificate: Path = Path()
    authorizations: list[str | None] = field(default_factory=list)
    wanted: str | None = None
    """The only authorization that it takes, if any is asked for."""
    moved: str | None = None
    """Where it sends whoever asks."""


@contextmanager
def git_web(folder: Path, keys: Path) -> Iterator[Web]:
    """Git's own program for the web over the repositories of a folder, behind a certificate made in `keys`."""
    keys.mkdir(parents=True, exist_ok=True)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=keys, check=True, capture_output=True)
    web = Web(certificate=keys / "certificate.pem")

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            web.authorizations.append(self.headers.get("Authorization"))
            if web.moved:
                self.send_response(301)
                self.send_header("Location", f"{web.moved}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if web.wanted and web.authorizations[-1] != web.wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = {
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "CONTENT_LENGTH": str(len(body)),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=ENVIRONMENT | told, capture_output=True, check=True
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
            for name, value in {**fields, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Request) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / "certificate.pem", keys / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        web.place = f"localhost:{server.server_address[1]}"
        with _serving(server):
            yield web
