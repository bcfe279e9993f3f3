"""A real HTTP server on the loopback that answers chat completions as it is told to: faults that real servers have."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def event(content: str, finish: str | None = None) -> bytes:
    """One event of a stream."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return f"data: {json.dumps({'model': 'm', 'choices': [choice]})}\n\n".encode()


@contextmanager
def serving(fault: str) -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server with a fault, and the bodies of the completions that were asked of it."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests do not chatter."""

        def do_GET(self) -> None:
            body = {"data": [{"id": "m", "max_model_len": 50 if fault == "small window" else 100_000}]}
            self._answer(200, json.dumps(body).encode())

        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            statuses = {
                "500": (500, b'{"error": {"message": "boom"}}'),
                "loading": (503, b'{"error": {"message": "Loading model", "type": "unavailable_error"}}'),
                "busy": (429, b'{"error": {"message": "overloaded"}}'),
                "no model": (404, b'{"error": {"message": "The model `m` does not exist."}}'),
                "unauthorised": (401, b'{"error": "Unauthorized"}'),
                "not json": (502, b"<html>Bad gateway</html>"),
            }
            if fault in statuses:
                self._answer(*statuses[fault])
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(event("Half an "))
            self.wfile.flush()
            if fault == "stall":
                time.sleep(3)
            elif fault == "error in the stream":
                self.wfile.write(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n')
            elif fault == "truncated":
                self.wfile.write(event("answer", "length"))
            elif fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            elif fault == "none":
                self.wfile.write(event("answer.", "stop") + b"data: [DONE]\n\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
