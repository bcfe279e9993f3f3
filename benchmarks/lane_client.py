"""One client of model servers, measured: run by `benchmarks.lanes`, for peers in an environment of their own.

    python lane_client.py --client NAME --urls URL[,URL] --in-flight N --calls N [--tuned] [--spread S]

With several URLs the first is to be asked first. With --spread the calls begin evenly over so many seconds.

Prints one JSON object: CPU microseconds a call, latencies in milliseconds, how many calls failed.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

MESSAGES = [{"role": "user", "content": "word " * 200}]
# As the peers are used: a server that hangs is given up after so long.
TIMEOUT_SECONDS = 2.0

Call = Callable[[], Awaitable[Any]]


async def openai(urls: list[str], tuned: bool) -> Call:
    """The openai package's own client."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"{urls[0]}/v1", api_key="x", timeout=TIMEOUT_SECONDS)
    return lambda: client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=100)


async def litellm(urls: list[str], tuned: bool) -> Call:
    """LiteLLM's Router, as it comes or tuned to pass a dead server by.

    Each server is a group of its own and the next one its fallback, since within a group it chooses at random.
    """
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as package

    package.telemetry = False
    package.suppress_debug_info = True
    deployments = [
        {
            "model_name": f"m{number}",
            "litellm_params": {
                "model": "openai/m",
                "api_base": f"{url}/v1",
                "api_key": "x",
                "timeout": TIMEOUT_SECONDS,
            },
        }
        for number, url in enumerate(urls)
    ]
    fallbacks = [{f"m{number}": [f"m{number + 1}"]} for number in range(len(urls) - 1)]
    more = {"allowed_fails": 1, "cooldown_time": 30} if tuned else {}
    router = package.Router(model_list=deployments, fallbacks=fallbacks, **more)
    return lambda: router.acompletion(model="m0", messages=MESSAGES, max_tokens=100)


def _lanes(urls: list[str], transport: Any = None) -> Any:
    from cortex_pipelines.lanes import Lanes, Limits
    from cortex_pipelines.settings import load_settings

    state = tempfile.mkdtemp()
    variables = {"ARGOS_LANE_CODER_URL": ",".join(urls), "CORTEX_STATE": state, "CORTEX_LANE_CACHE": "off"}
    return Lanes(load_settings(variables, env_file=None), Limits(connect=2, first=TIMEOUT_SECONDS), transport)


async def ours(urls: list[str], tuned: bool) -> Call:
    """A call of a lane."""
    return _call(_lanes(urls))


def _call(lanes: Any) -> Call:
    from cortex_pipelines.lanes import Request
    from cortex_pipelines.names import Lane

    return lambda: lanes.acomplete(Lane.CODER, Request(MESSAGES, 100))


def _canned() -> Any:
    """A transport that has every answer at once, so that what remains is the client."""
    import httpx

    from benchmarks.model_server import Served

    def body(answer: bytes) -> bytes:
        head, rest = answer.split(b"\r\n\r\n", 1)
        if b"chunked" not in head:
            return rest
        parts = []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            parts.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return b"".join(parts)

    models, streamed = body(Served.models), body(Served.streamed)

    class Canned(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=httpx.ByteStream(models if request.method == "GET" else streamed))

    return Canned()


async def logic(urls: list[str], tuned: bool) -> Call:
    """A call of a lane on answers that are there at once."""
    return _call(_lanes(urls, _canned()))


async def request(urls: list[str], tuned: bool) -> Call:
    """The same request, sent and read without a lane around it."""
    from cortex_pipelines.lanes.calls import Limits
    from cortex_pipelines.lanes.client import Client
    from cortex_pipelines.lanes.resolution import Endpoint

    client, endpoint = Client(Limits(), _canned()), Endpoint(urls[0], "m")
    sent = {"messages": MESSAGES, "model": "m", "max_tokens": 100, "temperature": 0.0}
    return lambda: client.complete(endpoint, sent, first=60, whole=600)


async def transport(urls: list[str], tuned: bool) -> Call:
    """Bytes out and in through our transport, with nothing around it."""
    import httpx

    from cortex_pipelines.lanes.transport import Connections

    connections, url = Connections(), httpx.URL(f"{urls[0]}/v1/chat/completions")
    body = json.dumps({"model": "m", "messages": MESSAGES, "max_tokens": 100, "stream": True}).encode()

    async def call() -> None:
        asked = httpx.Request("POST", url, content=body)
        response = await connections.handle_async_request(asked)
        async for _ in response.stream:
            pass
        await response.aclose()

    return call


CLIENTS = {client.__name__: client for client in (openai, litellm, ours, logic, request, transport)}


async def measured(call: Call, in_flight: int, calls: int, spread: float) -> dict[str, float]:
    """Calls, `in_flight` at a time, after as many that warm up; they begin evenly over `spread` seconds."""
    spent: list[float] = []
    latencies: list[float] = []
    failed = 0

    async def work(numbers: Any, wait: float) -> None:
        nonlocal failed
        await asyncio.sleep(wait)
        for _ in numbers:
            began, cpu = time.perf_counter(), time.thread_time_ns()
            try:
                await call()
            except Exception:
                failed += 1
            spent.append((time.thread_time_ns() - cpu) / 1e3)
            latencies.append((time.perf_counter() - began) * 1e3)

    async def all_of(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*[work(numbers, spread * at / in_flight) for at in range(in_flight)])

    await all_of(max(min(20, calls), in_flight))
    spent.clear()
    latencies.clear()
    failed = 0
    before = time.process_time()
    await all_of(calls)
    used = time.process_time() - before
    spent.sort()
    latencies.sort()
    return {
        "cpu_us": round(used / calls * 1e6, 1),
        "cpu_us_p50": round(spent[calls // 2], 1),
        "cpu_us_p99": round(spent[int(calls * 0.99)], 1),
        "p50_ms": round(latencies[calls // 2], 3),
        "p99_ms": round(latencies[int(calls * 0.99)], 3),
        "failed": failed,
    }


async def run(given: argparse.Namespace) -> dict[str, float]:
    """Make the client and measure it."""
    call = await CLIENTS[given.client](given.urls.split(","), given.tuned)
    return await measured(call, given.in_flight, given.calls, given.spread)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="lane_client.py")
    parser.add_argument("--client", choices=CLIENTS, required=True)
    parser.add_argument("--urls", required=True)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--spread", type=float, default=0.0)
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
