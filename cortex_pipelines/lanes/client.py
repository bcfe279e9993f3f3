"""What is asked of inference servers: always streamed on the wire, with a limit for each phase."""

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from pydantic_core import PydanticSerializationError, to_json

from cortex_pipelines.lanes.errors import BadRequest, ConnectionFailed, LoadFailed, StreamCut, TimedOut
from cortex_pipelines.lanes.light_httpx import httpx
from cortex_pipelines.lanes.replies import (
    Gathering,
    Held,
    Keeper,
    Reply,
    Served,
    counted,
    info,
    props,
    refusal,
    running,
    served,
    sleeping,
    version,
)
from cortex_pipelines.lanes.transport import Answer, Answered, Connections, Target, Through, target
from cortex_pipelines.names import Backend

if TYPE_CHECKING:
    from cortex_pipelines.lanes.calls import Limits
    from cortex_pipelines.lanes.resolution import Endpoint

# A refusal, a list of models or a count is smaller; of what is longer the rest is not read.
BODY_BYTES = 256 * 2**10
# Vectors of a batch: 64 of 4,096 numbers of twenty characters each take five megabytes.
ANSWER_BYTES = 64 * 2**20
# vLLM's metrics.
METRICS_BYTES = 4 * 2**20
# A token's event takes about 300 bytes with llama.cpp and vLLM; one that streams far more is no model.
EVENT_BYTES = 4 * 2**10
ROOM_BYTES = 2**20
# A server that asks for more patience than this is looked at again before.
RETRY_AFTER_SECONDS = 60.0
ENDING_SECONDS = 1.0
# A server that lists no models answers so; what cannot be told is not an error.
UNTOLD = (404, 405, 501)

# Both take the messages of a chat and count what their template makes of it.
_COUNTING = {Backend.VLLM: "/tokenize", Backend.LLAMA_CPP: "/v1/chat/completions/input_tokens"}

_DISCARDED = re.compile(rb'^vllm:engine_sleep_state\{[^}\n]*sleep_state="discard_all"[^}\n]*\} 1(\.0)?$', re.MULTILINE)
# Room for the weights, the weights from the disk, and at last the cache: only then does vLLM take requests again.
_WAKING: tuple[tuple[str, Mapping[str, Any] | None], ...] = (
    ("/wake_up?tags=weights", None),
    ("/collective_rpc", {"method": "reload_weights"}),
    ("/wake_up?tags=kv_cache", None),
)

T = TypeVar("T")


class Client:
    """Calls over one transport, of one event loop. What fails is an `AttemptError`, never the transport's exception.

    The environment's proxies, netrc and certificate variables are not honoured: a prompt goes to the endpoint that was
    set, and nowhere else. Redirections are not followed for the same reason.
    """

    def __init__(self, limits: "Limits", transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._limits = limits
        self._sender = Through(transport) if transport else Connections()

    async def probe(self, endpoint: "Endpoint", seconds: float) -> Served | None:
        """What the server says of its models; None where it does not say it in time."""
        try:
            async with asyncio.timeout(min(seconds, self._limits.connect)):
                status, body = await self.ask("GET", endpoint, "/v1/models")
                if status in UNTOLD:
                    return Served()
                if status != 200:
                    raise refusal(status, body)
                told = served(body, endpoint.model)
                match told.keeper or endpoint.backend or told.backend:
                    case Keeper.LLAMA_SWAP:
                        status, body = await self.ask("GET", endpoint, "/running")
                        return running(told, endpoint.model, body) if status == 200 else told
                    case Keeper.LLAMA_ROUTER:
                        if told.held is not Held.LOADED:
                            return told
                        # Without this a question alone would load the model.
                        about = urlencode({"model": endpoint.model or next(iter(told.models), ""), "autoload": "false"})
                        status, body = await self.ask("GET", endpoint, f"/props?{about}")
                        return props(told, body) if status == 200 else told
                    case Backend.VLLM:
                        status, body = await self.ask("GET", endpoint, "/is_sleeping")
                        return sleeping(told, body) if status == 200 else told
                    case Backend.LLAMA_CPP:
                        status, body = await self.ask("GET", endpoint, "/props")
                        return props(told, body) if status == 200 else told
                    case Backend.TGI | None:
                        status, body = await self.ask("GET", endpoint, "/info")
                        return info(told, body) if status == 200 else told
                    case _:
                        return told
        except TimeoutError:
            return None

    async def tell(
        self, endpoint: "Endpoint", keeper: Keeper, model: str, load: bool, seconds: float, level: int = 1
    ) -> None:
        """Tell a server to load a model or to let go of it. It may answer before that is done, or refuse if it was.

        `level` is how deep vLLM sleeps.
        """
        try:
            async with asyncio.timeout(seconds):
                if load and keeper is Keeper.VLLM and (level == 2 or await self._discarded(endpoint)):
                    await self._read_again(endpoint)
                    return
                method, path, content = _told(keeper, model, load, level)
                status, body = await self.ask(method, endpoint, path, content)
        except TimeoutError:
            raise TimedOut(f"it was told to {'load' if load else 'let go of'} {model}: no answer") from None
        if status != 200 and not isinstance(error := refusal(status, body), BadRequest):
            raise error

    async def _discarded(self, endpoint: "Endpoint") -> bool:
        """Whether a vLLM that sleeps has discarded its weights, whoever told it to, and at whatever setting."""
        status, body = await self.ask("GET", endpoint, "/metrics", room=METRICS_BYTES)
        return status == 200 and _DISCARDED.search(body) is not None

    async def _read_again(self, endpoint: "Endpoint") -> None:
        """Wake a vLLM that discarded its weights. Woken at once it would answer with whatever lay in its memory.

        What was done of it before, by somebody who was killed, does no harm when it is done again.
        """
        for path, content in _WAKING:
            status, body = await self.ask("POST", endpoint, path, content)
            if status != 200:
                # It stays asleep: nobody is answered by it.
                raise LoadFailed(f"its weights could not be read again: {refusal(status, body)}")

    async def version(self, endpoint: "Endpoint", seconds: float) -> str | None:
        """vLLM's version; None where the server has none to tell."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, self._limits.connect)):
                status, body = await self.ask("GET", endpoint, "/version")
                return version(body) if status == 200 else None
        return None

    async def count(
        self, endpoint: "Endpoint", backend: Backend | None, prompt: Mapping[str, Any], seconds: float
    ) -> int | None:
        """The tokens of a prompt as the server's template and tokenizer make it; None where it cannot tell."""
        path = _COUNTING.get(backend) if backend else None
        if path is None:
            return None
        try:
            async with asyncio.timeout(seconds):
                status, body = await self.ask("POST", endpoint, path, prompt)
        except TimeoutError:
            return None
        return counted(body) if status == 200 else None

    async def complete(
        self,
        endpoint: "Endpoint",
        request: Mapping[str, Any],
        *,
        first: float,
        whole: float,
        heard: Callable[[], None] = lambda: None,
    ) -> Reply:
        """One chat completion: its first token within `first` seconds, all of it within `whole`.

        Between two tokens lie at most `Limits.stall` seconds; a ping is no token. `heard` is called when the server
        takes the request.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + whole
        room = ROOM_BYTES + EVENT_BYTES * int(request["max_tokens"])
        gathering = Gathering(room, structured="response_format" in request)
        sent = {**request, "stream": True, "stream_options": {"include_usage": True}}
        try:
            with _Limit(loop, loop.time() + min(first, whole)) as limit:
                response = await self._send("POST", endpoint, "/v1/chat/completions", sent)
                try:
                    if response.status != 200:
                        raise refusal(response.status, await _beginning(response), _retry_after(response))
                    heard()
                    async for piece in response:
                        if gathering.feed(piece):
                            # After the last event only the end of the body is due, so that the connection can be kept.
                            within = ENDING_SECONDS if gathering.done else self._limits.stall
                            limit.move(min(loop.time() + within, until))
                finally:
                    await response.aclose()
        except TimeoutError:
            if gathering.finish is None:
                raise TimedOut(_lateness(gathering, first, whole, loop.time() >= until)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if gathering.finish is None:
                raise _broken(error, gathering.begun) from error
        return gathering.reply()

    async def post(self, endpoint: "Endpoint", path: str, content: Mapping[str, Any], seconds: float) -> bytes:
        """What a server answers to a request that is not streamed; anything but 200 is an `AttemptError`."""
        try:
            async with asyncio.timeout(seconds):
                status, body = await self.ask("POST", endpoint, path, content, room=ANSWER_BYTES)
        except TimeoutError:
            raise TimedOut(f"no answer within {seconds:.1f} s") from None
        if status != 200:
            raise refusal(status, body[:BODY_BYTES])
        return body

    async def ask(
        self,
        method: str,
        endpoint: "Endpoint",
        path: str,
        content: Mapping[str, Any] | None = None,
        room: int = BODY_BYTES,
    ) -> tuple[int, bytes]:
        """The status of an answer and its first `room` bytes."""
        try:
            response = await self._send(method, endpoint, path, content)
            try:
                return response.status, await _beginning(response, room)
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _broken(error, begun=False) from error

    async def _send(
        self, method: str, endpoint: "Endpoint", path: str, content: Mapping[str, Any] | None
    ) -> Answer | Answered:
        body = b"" if content is None else _encoded(content)
        return await self._sender.send(method.encode(), _addressed(endpoint, path), body, self._limits.connect)


class _Limit:
    """Ends what its task does within it, with a `TimeoutError`, at a time of the loop's clock that may be moved.

    As `asyncio.timeout`, but moving it later costs nothing: every token does so.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._loop = loop
        self._when = when
        self._expired = False
        self._armed: asyncio.TimerHandle

    def move(self, when: float) -> None:
        """Let it end at another time."""
        self._when = when
        if when < self._armed.when():
            self._armed.cancel()
            self._armed = self._loop.call_at(when, self._ring)

    def __enter__(self) -> "_Limit":
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._armed = self._loop.call_at(self._when, self._ring)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._armed.cancel()
        # Somebody else may have cancelled the task as well: then that is what counts.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _ring(self) -> None:
        if self._loop.time() < self._when:
            self._armed = self._loop.call_at(self._when, self._ring)
        else:
            self._expired = True
            self._task.cancel()


def run(call: Coroutine[Any, Any, T]) -> T:
    """Wait for a call, from any thread, also one that runs an event loop of its own."""
    future = asyncio.run_coroutine_threadsafe(call, _loop())
    try:
        return future.result()
    except BaseException:
        # The caller gives up, as with Ctrl-C: closing the connection frees the server's slot.
        future.cancel()
        raise


def begin(call: Coroutine[Any, Any, Any]) -> None:
    """Start something in the background of this process; what it raises is nobody's."""
    asyncio.run_coroutine_threadsafe(call, _loop())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The one loop of this process, in a thread: limits hold in every phase, also in a name's look-up."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="lanes", daemon=True).start()
    return loop


if hasattr(os, "register_at_fork"):
    # A forked child has the loop, but not its thread.
    os.register_at_fork(after_in_child=_loop.cache_clear)


@lru_cache(maxsize=256)
def _addressed(endpoint: "Endpoint", path: str) -> Target:
    url = httpx.URL(f"{endpoint.url}{path}")
    headers = [(b"Host", url.netloc), (b"Accept-Encoding", b"identity"), (b"Content-Type", b"application/json")]
    if endpoint.api_key:
        headers.append((b"Authorization", f"Bearer {endpoint.api_key.get_secret_value()}".encode()))
    return target(url, headers)


def _encoded(content: Mapping[str, Any]) -> bytes:
    try:
        return to_json(content)
    except PydanticSerializationError:
        # Names of files may hold bytes that are no UTF-8: they become question marks, not an error.
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def _told(keeper: Keeper, model: str, load: bool, level: int) -> tuple[str, str, Mapping[str, Any] | None]:
    match keeper:
        case Keeper.VLLM:
            # Its default mode would kill the requests that are under way.
            return "POST", "/wake_up" if load else f"/sleep?level={level}&mode=wait", None
        case Keeper.LLAMA_ROUTER:
            return "POST", f"/models/{'load' if load else 'unload'}", {"model": model}
        case Keeper.LLAMA_SWAP:
            name = quote(model, safe="/")
            return ("GET", f"/upstream/{name}/health", None) if load else ("POST", f"/api/models/unload/{name}", None)


async def _beginning(response: Answer | Answered, room: int = BODY_BYTES) -> bytes:
    body = bytearray()
    async for piece in response:
        body += piece
        if len(body) > room:
            break
    return bytes(body[:room])


def _retry_after(response: Answer | Answered) -> float | None:
    told = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
    return min(float(told), RETRY_AFTER_SECONDS) if told.isdigit() else None


def _lateness(gathering: Gathering, first: float, whole: float, over: bool) -> str:
    if over:
        return f"the answer was not whole within {whole:.1f} s"
    return "it stopped in the middle of the answer" if gathering.begun else f"no first token within {first:.1f} s"


def _broken(error: Exception, begun: bool) -> ConnectionFailed | StreamCut:
    told = str(error) or type(error).__name__
    return StreamCut(f"the stream broke: {told}") if begun else ConnectionFailed(told)
