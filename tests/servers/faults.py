"""An OpenAI-compatible server on the loopback, at the level of sockets, that answers as it is told to, faults too."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.servers.keepers import Keeper


@dataclass(frozen=True)
class Answer:
    """How one completion is answered.

    Without a `status` other than 200 the text is streamed in `events`. `reset`: the connection is reset "before" or
    "after" the headers. `cut` and `stall` count events: after so many the connection ends, or nothing more is sent.
    `pause` is in seconds between events; `pings` are sent instead of tokens while stalled.
    """

    text: str = "The answer."
    reasoning: str = ""
    finish: str | None = "stop"
    events: int = 3
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    reset: str | None = None
    cut: int | None = None
    stall: int | None = None
    pings: bool = False
    pause: float = 0.0
    delay: float = 0.0
    raw: bytes | None = None
    model: str = "m"
    usage: bool = True


def streamed(answer: Answer) -> list[bytes]:
    """The events of a streamed answer, as vLLM words them."""
    size = max(1, -(-len(answer.text) // answer.events))
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    if answer.reasoning:
        deltas.append({"reasoning": answer.reasoning})
    deltas += [{"content": answer.text[start : start + size]} for start in range(0, len(answer.text), size)]
    told = [{"model": answer.model, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    if answer.finish:
        told.append({"model": answer.model, "choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish}]})
    if answer.usage:
        told.append({"model": answer.model, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    return [f"data: {json.dumps(event)}\n\n".encode() for event in told] + [b"data: [DONE]\n\n"]


@dataclass
class ModelServer:
    """What the server is told and what it saw. `answer` gives the answer to the n-th completion, from 0."""

    answer: Callable[[int], Answer]
    model: str = "m"
    window: int | None = 100_000
    owned_by: str = "vllm"
    idle_seconds: float = 5.0
    requests_each: int = 1_000_000
    posts: dict[str, bytes] = field(default_factory=dict)
    keeper: "Keeper | None" = None
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    active: int = 0
    most_active: int = 0
    abandoned: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            for served in range(self.requests_each):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.idle_seconds)
                length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0)
                method, path = head.split(b" ", 2)[:2]
                body = await reader.readexactly(length)
                self.paths.append(path.decode())
                last = served == self.requests_each - 1
                if self.keeper and (told := self.keeper.answer(method.decode(), path.decode(), body)):
                    _send(writer, *told)
                    await writer.drain()
                elif path.decode() in self.posts:
                    self.asked.append(json.loads(body))
                    _send(writer, 200, self.posts[path.decode()])
                    await writer.drain()
                elif method == b"GET":
                    await self._get(path.decode(), writer)
                elif not await self._complete(json.loads(body), reader, writer, last):
                    break
        writer.close()

    async def _get(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            row: dict[str, Any] = {"id": self.model, "owned_by": self.owned_by}
            row |= {"max_model_len": self.window} if self.window else {}
            _send(writer, 200, json.dumps({"object": "list", "data": [row]}).encode())
        else:
            _send(writer, 404, b'{"detail":"Not Found"}')
        await writer.drain()

    async def _complete(
        self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: bool
    ) -> bool:
        answer = self.answer(len(self.asked))
        self.asked.append(asked)
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            return await self._say(answer, gone, writer, last)
        finally:
            self.active -= 1
            gone.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone

    async def _say(
        self, answer: Answer, gone: "asyncio.Future[bytes]", writer: asyncio.StreamWriter, last: bool
    ) -> bool:
        if answer.delay and not await self._wait(answer.delay, gone):
            return False
        while self.keeper and self.keeper.hangs:
            if not await self._wait(0.02, gone):
                return False
        if self.keeper and self.keeper.garbled:
            answer = replace(answer, text="!!!!!!!!!!!!")
        if answer.reset == "before":
            return _reset(writer)
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            return False
        if answer.status != 200:
            _send(writer, answer.status, answer.body, answer.headers)
            return not last
        close = "Connection: close\r\n" if last else ""
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{close}Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        if answer.reset == "after":
            await writer.drain()
            return _reset(writer)
        for number, event in enumerate(streamed(answer)):
            if number == answer.cut:
                return False
            while number == answer.stall:
                if answer.pings:
                    writer.write(b"3\r\n:\n\n\r\n")
                if not await self._wait(0.05, gone):
                    return False
            if answer.pause and not await self._wait(answer.pause, gone):
                return False
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return not last

    async def _wait(self, seconds: float, gone: "asyncio.Future[bytes]") -> bool:
        done, _ = await asyncio.wait([gone], timeout=seconds)
        self.abandoned += bool(done)
        return not done


def _send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def _reset(writer: asyncio.StreamWriter) -> bool:
    taken: socket.socket = writer.get_extra_info("socket")
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    return False


@contextmanager
def serving(
    answer: Answer | list[Answer] | Callable[[int], Answer] = Answer(),
    port: int = 0,
    host: str = "127.0.0.1",
    **given: Any,
) -> Iterator[ModelServer]:
    """A server in a thread of its own. Of a list of answers the last is given again and again.

    `port` 0 is one that the system chooses; `host` is another address of the loopback.
    """
    if isinstance(answer, Answer):
        told = [answer]
    elif isinstance(answer, list):
        told = answer
    else:
        told = []
    choose = (lambda number: told[min(number, len(told) - 1)]) if told else answer
    assert callable(choose)
    server = ModelServer(choose, **given)
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.connected, host, port, backlog=1024))
    server.url = f"http://{host}:{listening.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"
