"""HTTP to inference servers, for the length of one call: always streamed on the wire, with a limit for each phase."""

import asyncio
import json
import os
import ssl
import threading
from collections.abc import Coroutine, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

from cortex_pipelines.lanes.errors import ConnectionFailed, StreamCut, TimedOut
from cortex_pipelines.lanes.replies import Gathering, Reply, Served, counted, refusal, served
from cortex_pipelines.settings import Backend

if TYPE_CHECKING:
    from types import TracebackType

    from cortex_pipelines.lanes.resolution import Endpoint
    from cortex_pipelines.lanes.router import Limits

# A refusal, a list of models or a count is smaller; of what is longer the rest is not read.
BODY_BYTES = 256 * 2**10
# A token's event takes about 300 bytes with llama.cpp and vLLM; one that streams far more is no model.
EVENT_BYTES = 4 * 2**10
ROOM_BYTES = 2**20
# A server that lists no models answers so; what cannot be told is not an error.
UNTOLD = (404, 405, 501)

# Both take the messages of a chat and count what their template makes of it.
_COUNTING = {Backend.VLLM: "/tokenize", Backend.LLAMA_CPP: "/v1/chat/completions/input_tokens"}

T = TypeVar("T")


class Client:
    """The connections of one call. What fails is an `AttemptError`, never an exception of the transport.

    The environment's proxies, netrc and certificate variables are not honoured: a prompt goes to the endpoint that was
    set, and nowhere else. Redirections are not followed for the same reason.
    """

    def __init__(self, limits: "Limits") -> None:
        self._limits = limits
        self._http = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            verify=_certificates(),
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(None, connect=limits.connect),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def probe(self, endpoint: "Endpoint", seconds: float) -> Served | None:
        """What the server says of its models; None where it does not say it in time."""
        try:
            async with asyncio.timeout(min(seconds, self._limits.connect)):
                status, body = await self._ask("GET", endpoint, "/v1/models")
        except TimeoutError:
            return None
        if status == 200:
            return served(body, endpoint.model)
        if status in UNTOLD:
            return Served()
        raise refusal(status, body)

    async def count(
        self, endpoint: "Endpoint", backend: Backend | None, prompt: Mapping[str, Any], seconds: float
    ) -> int | None:
        """The tokens of a prompt as the server's template and tokenizer make it; None where it cannot tell."""
        path = _COUNTING.get(backend) if backend else None
        if path is None:
            return None
        try:
            async with asyncio.timeout(seconds):
                status, body = await self._ask("POST", endpoint, path, prompt)
        except TimeoutError:
            return None
        return counted(body) if status == 200 else None

    async def complete(self, endpoint: "Endpoint", request: Mapping[str, Any], *, first: float, whole: float) -> Reply:
        """One chat completion: its first token within `first` seconds, all of it within `whole`.

        Between two tokens lie at most `Limits.stall` seconds; a ping is no token.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + whole
        gathering = Gathering(room=ROOM_BYTES + EVENT_BYTES * int(request["max_tokens"]))
        sent = {**request, "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with (
                asyncio.timeout(min(first, whole)) as patience,
                self._http.stream("POST", **_request(endpoint, "/v1/chat/completions", sent)) as response,
            ):
                if response.status_code != 200:
                    raise refusal(response.status_code, await _beginning(response))
                async for piece in response.aiter_raw():
                    if gathering.feed(piece):
                        patience.reschedule(min(loop.time() + self._limits.stall, until))
                    if gathering.done:
                        break
        except TimeoutError:
            if gathering.finish is None:
                raise TimedOut(_lateness(gathering, first, whole, loop.time() >= until)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if gathering.finish is None:
                raise _broken(error, gathering.begun) from error
        return gathering.reply()

    async def _ask(
        self, method: str, endpoint: "Endpoint", path: str, content: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        try:
            async with self._http.stream(method, **_request(endpoint, path, content)) as response:
                return response.status_code, await _beginning(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _broken(error, begun=False) from error


def run(call: Coroutine[Any, Any, T]) -> T:
    """Wait for a call, from any thread, also one that runs an event loop of its own."""
    future = asyncio.run_coroutine_threadsafe(call, _loop())
    try:
        return future.result()
    except BaseException:
        # The caller gives up, as with Ctrl-C: closing the connection frees the server's slot.
        future.cancel()
        raise


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The one loop of this process, in a thread: limits hold in every phase, also in a name's look-up."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="lanes", daemon=True).start()
    return loop


if hasattr(os, "register_at_fork"):
    # A forked child has the loop, but not its thread.
    os.register_at_fork(after_in_child=_loop.cache_clear)


@cache
def _certificates() -> ssl.SSLContext:
    """What the system trusts, read once: it takes longer than a call's own work."""
    return ssl.create_default_context()


def _request(endpoint: "Endpoint", path: str, content: Mapping[str, Any] | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {endpoint.api_key.get_secret_value()}"} if endpoint.api_key else {}
    request: dict[str, Any] = {"url": f"{endpoint.url}{path}", "headers": headers}
    if content is not None:
        headers["Content-Type"] = "application/json"
        # Names of files may hold bytes that are no UTF-8: they become question marks, not an error.
        request["content"] = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return request


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > BODY_BYTES:
            break
    return body[:BODY_BYTES]


def _lateness(gathering: Gathering, first: float, whole: float, over: bool) -> str:
    if over:
        return f"the answer was not whole within {whole:.1f} s"
    return "it stopped in the middle of the answer" if gathering.begun else f"no first token within {first:.1f} s"


def _broken(error: Exception, begun: bool) -> ConnectionFailed | StreamCut:
    told = str(error) or type(error).__name__
    return StreamCut(f"the stream broke: {told}") if begun else ConnectionFailed(told)
