"""An OpenAI-compatible server in a process of its own, which costs so little that what is measured is the client.

    python -m benchmarks.model_server [--fault refuse|hang|500] [--seconds S]

A completion is answered S seconds after it was asked. It listens on a loopback port that the system chooses, prints it,
and ends when its standard input does.
"""

import argparse
import asyncio
import json
import sys
import threading
from os import _exit
from typing import Any

MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 100_000}]}
USAGE = {"prompt_tokens": 210, "completion_tokens": 64, "total_tokens": 274}
WORDS = "word word word word word word word word "
BOOM = {"error": {"message": "boom", "type": "InternalServerError", "param": None, "code": 500}}


def _event(**told: Any) -> bytes:
    told = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", **told}
    event = b"data: " + json.dumps(told).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def _streamed() -> bytes:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *[{"content": WORDS}] * 8]
    events = [_event(choices=[{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    events.append(_event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    events.append(_event(choices=[], usage=USAGE))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(events) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def _whole(told: dict[str, Any], status: bytes = b"200 OK") -> bytes:
    body = json.dumps(told).encode()
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


class Served(asyncio.Protocol):
    """One connection: requests are told apart by their length, and answered from what was made before."""

    fault = ""
    seconds = 0.0
    streamed = _streamed()
    models = _whole(MODELS)
    failed = _whole(BOOM, b"500 Internal Server Error")
    whole = _whole(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS * 8}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.held = b""

    def data_received(self, data: bytes) -> None:
        self.held += data
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head = self.held[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self.held) < end + 4 + length:
                return
            body, self.held = self.held[end + 4 : end + 4 + length], self.held[end + 4 + length :]
            if self.fault == "hang":
                continue
            answer = self._answer(head, body)
            if self.seconds and not head.startswith(b"get"):
                asyncio.get_running_loop().call_later(self.seconds, self.transport.write, answer)
            else:
                self.transport.write(answer)

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if self.fault == "500":
            return self.failed
        if head.startswith(b"get"):
            return self.models
        return self.streamed if b'"stream":true' in body.replace(b" ", b"") else self.whole


async def serve(fault: str, seconds: float) -> None:
    """Serve until the process ends."""
    Served.fault, Served.seconds = fault, seconds
    server = await asyncio.get_running_loop().create_server(Served, "127.0.0.1", 0, backlog=2_048)
    port = server.sockets[0].getsockname()[1]
    if fault == "refuse":
        server.close()
    print(port, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_server")
    parser.add_argument("--fault", choices=["", "refuse", "hang", "500"], default="")
    parser.add_argument("--seconds", type=float, default=0.0)
    given = parser.parse_args()
    threading.Thread(target=lambda: (sys.stdin.read(), _exit(0)), daemon=True).start()
    asyncio.run(serve(given.fault, given.seconds))


if __name__ == "__main__":
    main()
