"""HTTP/1.1 to inference servers: connections that are kept, behind the seam that httpx gives its transports."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import httptools

from cortex_pipelines.lanes.light_httpx import httpx

# The servers close a socket that was idle for five seconds; what they announce in `Keep-Alive` goes before.
KEPT_SECONDS = 4.0
# An answer whose reader is slow waits in the socket, not in memory.
BUFFERED_BYTES = 2**20
HEADER_BYTES = 64 * 2**10

_Origin = tuple[str, str, int]
_Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go: `head` is what stands between a request's method and the length of its body."""

    url: httpx.URL
    headers: _Headers
    origin: _Origin
    head: bytes


def target(url: httpx.URL, headers: _Headers) -> Target:
    """The target of a URL, for requests with these headers."""
    lines = [b" %s HTTP/1.1" % url.raw_path, *(b"%s: %s" % header for header in headers), b""]
    origin = url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
    return Target(url, tuple(headers), origin, b"\r\n".join(lines))


class Connections(httpx.AsyncBaseTransport):
    """A pool of connections of one event loop, as many as there are calls in flight.

    httpx's own pool looks at every connection it has at each call: at 256 in flight a call costs it six milliseconds of
    CPU time, and these connections a twentieth of that (docs/benchmarks.md). A request is sent again, once and on a new
    connection, when a kept one proves to be closed before a byte of the answer; nothing else is ever sent twice.

    Raises what httpx raises. The only time limit that is looked at is `connect`.
    """

    def __init__(self) -> None:
        self._kept: dict[_Origin, list[_Connection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the answer's headers, and its body as a stream."""
        body = await request.aread()
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        seconds = request.extensions.get("timeout", {}).get("connect")
        answer = await self.send(request.method.encode(), target(request.url, headers), body, seconds)
        return httpx.Response(answer.status, headers=list(answer.headers), stream=answer)

    async def send(self, method: bytes, where: Target, body: bytes, connect: float | None) -> "Answer":
        """The same without httpx's requests and responses, which cost as much as the sending."""
        length = b"Content-Length: %d\r\n\r\n" % len(body) if body or method == b"POST" else b"\r\n"
        written = b"".join((method, where.head, length, body))
        connection = self._take(where.origin)
        if connection is not None:
            try:
                return await self._exchange(connection, where.origin, written)
            except httpx.NetworkError:
                if connection.heard:
                    raise
        return await self._exchange(await _connect(where.origin, connect), where.origin, written)

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        for connection in [connection for kept in self._kept.values() for connection in kept]:
            connection.abort()
        self._kept.clear()

    async def _exchange(self, connection: "_Connection", origin: _Origin, written: bytes) -> "Answer":
        try:
            await connection.send(written)
        except BaseException:
            connection.abort()
            raise
        return Answer(self, origin, connection)

    def _take(self, origin: _Origin) -> "_Connection | None":
        kept = self._kept.get(origin, [])
        now = time.monotonic()
        while kept:
            connection = kept.pop()
            if connection.usable and now < connection.kept_until:
                return connection
            connection.abort()
        return None

    def keep(self, origin: _Origin, connection: "_Connection") -> None:
        """Take a connection back, to be used again or closed."""
        if not connection.reusable:
            connection.abort()
            return
        kept = self._kept.setdefault(origin, [])
        kept.append(connection)
        # The oldest is at the front: those that nobody will take again do not gather.
        while kept and kept[0].kept_until < time.monotonic():
            kept.pop(0).abort()


class Through:
    """Any other transport of httpx's kind, asked as `Connections` is."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, method: bytes, where: Target, body: bytes, connect: float | None) -> "Answered":
        """Send a request; the answer's status, headers and body."""
        # With a stream httpx takes the headers as they are.
        headers = [*where.headers, *([(b"Content-Length", b"%d" % len(body))] if body else [])]
        request = httpx.Request(
            method.decode(),
            where.url,
            headers=headers,
            stream=httpx.ByteStream(body),
            extensions={"timeout": {"connect": connect}},
        )
        return Answered(await self._transport.handle_async_request(request))


class Answered:
    """A response of httpx, looked at as an `Answer`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers = response.headers.raw

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Its own iteration costs as much as the call.
        return cast(httpx.AsyncByteStream, self._response.stream).__aiter__()

    async def aclose(self) -> None:
        """Close it, also before its end."""
        await self._response.aclose()


class Answer(httpx.AsyncByteStream):
    """An answer and its body; closing it early closes the connection, which frees the server's slot."""

    def __init__(self, connections: Connections, origin: _Origin, connection: "_Connection") -> None:
        self.status = connection.status
        self.headers = connection.headers
        self._connections = connections
        self._origin = origin
        self._connection: _Connection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None and (piece := await self._connection.receive()):
            yield piece

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._connections.keep(self._origin, connection)


class _Connection(asyncio.Protocol):
    """One socket and the answer that is being read from it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._error: httpx.TransportError | None = None
        self._closed = False
        self._asked = False
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.heard = False
        self.kept_until = 0.0
        self._pieces: list[bytes] = []
        self._held = 0
        self._before_body = 0
        self._head_done = self._done = False

    @property
    def usable(self) -> bool:
        """Whether a request may be sent: the socket is open, and nothing came that nobody asked for."""
        return not self._closed and self._error is None

    @property
    def reusable(self) -> bool:
        """Whether the answer was read to its end on a socket that stays open."""
        return self.usable and self._done and not self._pieces and self.kept_until > 0

    def abort(self) -> None:
        """Close the socket now."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    async def send(self, written: bytes) -> None:
        """Send a request and wait for the headers of its answer."""
        self._begin()
        if self._transport is None or not self.usable:
            raise httpx.ReadError("the connection was closed")
        self._asked = True
        self._transport.write(written)
        while not self._head_done:
            await self._wait()

    async def receive(self) -> bytes:
        """The next bytes of the body; empty at its end."""
        while not self._pieces:
            if self._done:
                return b""
            await self._wait()
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        if self._transport is not None and not self._closed:
            self._transport.resume_reading()
        return piece

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: httpx.TransportError) -> None:
        if self._error is None and not self._done:
            self._error = error
        self._wake()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._asked or self._done:
            # A server that speaks unasked is about to close, or is none.
            self.abort()
            return
        self.heard = True
        if not self._head_done:
            self._before_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(httpx.RemoteProtocolError(f"what came is no HTTP: {error}"))
            self.abort()
        if not self._head_done and self._before_body > HEADER_BYTES:
            self._fail(httpx.RemoteProtocolError("its headers have no end"))
            self.abort()
        if self._held > BUFFERED_BYTES and self._transport is not None and not self._closed:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._head_done and exc is None and not self._delimited():
            # Such a body ends where the connection does.
            self._done = True
        self._fail(httpx.ReadError(str(exc) if exc else "the connection was closed in the middle of the answer"))

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._head_done = self.status >= 200
        if not self._head_done:
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        if not self._head_done:
            return
        self._done = True
        self._asked = False
        if self._parser.should_keep_alive():
            self.kept_until = time.monotonic() + self._kept_seconds()

    def _delimited(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    def _kept_seconds(self) -> float:
        """A second less than the server announces, so that it never closes while we send."""
        for name, value in self.headers:
            if name.lower() == b"keep-alive":
                for part in value.split(b","):
                    key, _, number = part.strip().partition(b"=")
                    if key.lower() == b"timeout" and number.isdigit():
                        return min(KEPT_SECONDS, int(number) - 1.0)
        return KEPT_SECONDS


async def _connect(origin: _Origin, seconds: float | None) -> _Connection:
    scheme, host, port = origin
    loop = asyncio.get_running_loop()
    context = _certificates() if scheme == "https" else None
    try:
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(_Connection, host, port, ssl=context)
    except TimeoutError:
        raise httpx.ConnectTimeout(f"no connection within {seconds} s") from None
    except OSError as error:
        raise httpx.ConnectError(_told(error)) from error
    return connection


def _told(error: OSError) -> str:
    """The system's words; asyncio and ssl have their own for some errors, and numbers of their own for others."""
    known = isinstance(error, ConnectionError) and error.errno
    return os.strerror(known) if known else str(error)


@cache
def _certificates() -> ssl.SSLContext:
    """What the system trusts, read once: it takes longer than a call's own work."""
    return ssl.create_default_context()
