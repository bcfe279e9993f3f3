"""Connections: kept, dropped in time, replayed once where a kept one proved closed, and nothing left behind."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.lanes.transport import Connections
from tests.servers.faults import Answer, nobody, serving


@contextmanager
def sockets(*conversations):
    """A server that says, on each connection in turn, what its conversation says to each request, then closes."""
    listening = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def serve():
        for replies in conversations:
            connection, _ = listening.accept()
            accepted.append(connection)
            with connection:
                for reply in replies:
                    if not connection.recv(65_536):
                        break
                    for piece in reply if isinstance(reply, list) else [reply]:
                        connection.sendall(piece)
                        time.sleep(0.005)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", accepted
    finally:
        listening.close()
        thread.join(5)


async def ask(connections, url, method="GET", body=b""):
    request = httpx.Request(method, f"{url}/v1/models", content=body, extensions={"timeout": {"connect": 2}})
    response = await connections.handle_async_request(request)
    try:
        return response.status_code, b"".join([piece async for piece in response.stream])
    finally:
        await response.aclose()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_a_connection_is_used_again():
    async def calls(url):
        connections = Connections()
        answers = [await ask(connections, url) for _ in range(3)]
        await connections.aclose()
        return answers

    with sockets([OK, OK, OK]) as (url, accepted):
        assert run(calls(url)) == [(200, b"ok")] * 3
    assert len(accepted) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=1, max=5\r\n\r\nok",
    ],
)
def test_one_that_the_server_is_about_to_close_is_not(answer):
    async def calls(url):
        connections = Connections()
        return [await ask(connections, url), await ask(connections, url)]

    with sockets([answer], [OK]) as (url, accepted):
        assert run(calls(url)) == [(200, b"ok")] * 2
    assert len(accepted) == 2


def test_a_kept_connection_that_proves_closed_costs_one_replay_and_a_new_one_none():
    async def calls(url):
        connections = Connections()
        first = await ask(connections, url)
        # The server closes it after the first answer; the request finds out.
        return first, await ask(connections, url, "POST", b"x" * 100)

    with sockets([OK], [OK]) as (url, accepted):
        assert run(calls(url)) == ((200, b"ok"), (200, b"ok"))
    assert len(accepted) == 2
    with sockets([b""], [OK]) as (url, accepted):
        with pytest.raises(httpx.ReadError):
            run(ask(Connections(), url))
        assert len(accepted) == 1


def test_idle_servers_that_close_after_a_while_lose_no_call():
    async def calls(url):
        connections = Connections()
        for number in range(12):
            assert (await ask(connections, url))[0] == 200
            await asyncio.sleep(0.04 * (number % 3))

    with serving(idle_seconds=0.05) as server:
        run(calls(server.url))
    with serving(requests_each=3) as server:
        run(calls(server.url))


@settings(deadline=None, max_examples=40)
@given(
    body=st.binary(max_size=2_000),
    chunked=st.booleans(),
    borders=st.sets(st.integers(1, 2_200), max_size=6),
    hint=st.booleans(),
)
def test_an_answer_is_the_same_however_it_comes(body, chunked, borders, hint):
    if chunked:
        parts = [body[start : start + 300] for start in range(0, len(body), 300)]
        told = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    else:
        told, head = body, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    whole = (b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" if hint else b"") + head + told
    cuts = [0, *sorted(cut for cut in borders if cut < len(whole)), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(cuts)]
    with sockets([pieces]) as (url, _):
        assert run(ask(Connections(), url)) == (200, body)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", httpx.ReadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", httpx.ReadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, httpx.RemoteProtocolError),
    ],
)
def test_what_is_no_whole_answer_is_an_error_of_httpx(said, error):
    with sockets([said]) as (url, _), pytest.raises(error):
        run(ask(Connections(), url))


def test_no_connection_is_an_error_of_httpx():
    with pytest.raises(httpx.ConnectError) as told:
        run(ask(Connections(), nobody()))
    assert str(told.value) == "Connection refused"


def test_many_at_once_leave_nothing_behind():
    async def calls(url):
        connections = Connections()
        await asyncio.gather(*[ask(connections, url, "POST", b'{"n": 1}') for _ in range(200)])
        kept = sum(map(len, connections._kept.values()))
        await connections.aclose()
        await asyncio.sleep(0.05)
        return kept

    with serving(Answer(pause=0.001)) as server:
        assert 0 < run(calls(server.url)) <= 200
        assert server.active == 0
