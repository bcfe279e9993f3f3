"""Machines that tell each other of endpoints: each test's machines are folders of state that share nothing else."""

import json
import threading
import time

import dagster as dg
import pytest

from cortex_pipelines.lanes import LaneFailed
from cortex_pipelines.lanes.board import RedisBoard
from cortex_pipelines.lanes.client import run
from cortex_pipelines.lanes.health import Effect, Health, State
from cortex_pipelines.names import Lane
from cortex_pipelines.resources.lane_board import DagsterBoard
from tests.servers import redis
from tests.servers.faults import Answer, nobody, serving

HELLO = [{"role": "user", "content": "Say something."}]
BOOM = Answer(status=500, body=b'{"error": {"message": "boom"}}')


@pytest.fixture(scope="module")
def redis_url():
    with redis.serving() as url:
        yield url


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), "dagster"])
def board(request):
    """A fresh board of each kind."""
    if request.param == "dagster":
        with dg.DagsterInstance.ephemeral() as instance:
            yield DagsterBoard(instance)
        return
    board = RedisBoard(request.getfixturevalue("redis_url"))
    board._redis.flushall()
    yield board


@pytest.fixture
def machine(lanes, tmp_path, board):
    """Lanes of a machine of its own."""

    def make(name, **variables):
        ours = lanes(**variables, CORTEX_STATE=str(tmp_path / name))
        run(ours.share(board))
        return ours

    return make


def wait_for(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_breaker_that_opens_or_closes_on_one_machine_does_so_on_the_others(machine, monkeypatch):
    monkeypatch.setattr("cortex_pipelines.lanes.health.OPEN_SECONDS", 3.0)
    answers = {"now": BOOM}
    with serving(lambda _: answers["now"]) as ill, serving(Answer(text="From the other.")) as well:
        urls = f"{ill.url},{well.url}"
        one, two = (machine(name, ARGOS_LANE_CODER_URL=urls) for name in ("one", "two"))
        two.health.alive(ill.url, None)
        for _ in range(3):
            one.complete(Lane.CODER, HELLO, max_tokens=50)
        assert one.health.status(ill.url).state is State.OPEN
        time.sleep(1.1)
        run(two.share())
        status = two.health.status(ill.url)
        assert (status.state, status.reason) == (State.OPEN, "server error")
        asked = len(ill.asked)
        assert two.complete(Lane.CODER, HELLO, max_tokens=50).text == "From the other."
        assert len(ill.asked) == asked
        answers["now"] = Answer()

        def closed(ours, other):
            ours.complete(Lane.CODER, HELLO, max_tokens=51)
            run(other.share())
            return ours.health.status(ill.url).state is State.READY

        wait_for(lambda: closed(two, one), 30)

        def heard():
            run(one.share())
            return one.health.status(ill.url).state is State.READY

        wait_for(heard)


def test_one_machine_probes_while_the_others_wait_for_what_comes_of_it(machine, monkeypatch):
    monkeypatch.setattr("cortex_pipelines.lanes.health.OPEN_SECONDS", 0.5)
    answers = {"now": BOOM}
    with serving(lambda _: answers["now"]) as ill, serving() as well:
        ours = [machine(str(n), ARGOS_LANE_CODER_URL=f"{ill.url},{well.url}") for n in range(4)]
        for _ in range(3):
            ours[0].complete(Lane.CODER, HELLO, max_tokens=50)
        time.sleep(1.1)
        for one in ours:
            one.health.alive(ill.url, None)
            run(one.share())
        before = len(ill.asked)
        answers["now"] = Answer(delay=1.0)
        calls = [
            threading.Thread(target=one.complete, args=(Lane.CODER, HELLO), kwargs={"max_tokens": 5}) for one in ours
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        wait_for(lambda: len(ill.asked) > before, 20)
        time.sleep(1.5)
        assert len(ill.asked) == before + 1


def test_leases_are_held_by_one_and_run_out(board):
    assert board.lease("x", "a", 3)
    assert not board.lease("x", "b", 3)
    time.sleep(3.1)
    assert board.lease("x", "b", 10)
    board.release("x", "a")
    assert not board.lease("x", "a", 10)
    board.release("x", "b")
    assert board.lease("x", "a", 10)


def test_who_is_late_with_a_claim_finds_the_lease_taken(monkeypatch):
    with dg.DagsterInstance.ephemeral() as instance:
        board, late = DagsterBoard(instance), DagsterBoard(instance)
        written = late.write

        def slow(texts):
            # Its claim says an earlier time than the one that has the lease by then.
            time.sleep(1.2)
            written(texts)

        monkeypatch.setattr(late, "write", slow)
        got = []
        second = threading.Thread(target=lambda: got.append(late.lease("x", "late", 30)))
        second.start()
        time.sleep(0.1)
        assert board.lease("x", "first", 30)
        second.join()
        assert got == [False]


@pytest.mark.redis
def test_of_many_that_take_a_lease_at_once_one_has_it(redis_url):
    boards = [RedisBoard(redis_url) for _ in range(20)]
    start, got = threading.Barrier(20), []

    def take(number):
        start.wait()
        if boards[number].lease("race", str(number), 30):
            got.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "gone"])
def test_a_board_that_cannot_be_reached_costs_no_call(lanes, url):
    url = f"redis{nobody().removeprefix('http')}/0" if url == "gone" else url
    with serving() as server:
        ours = lanes(ARGOS_LANE_CODER_URL=f"{nobody()},{server.url}", CORTEX_LANE_BOARD=url)
        began = time.monotonic()
        for number in range(5):
            assert ours.complete(Lane.CODER, HELLO, max_tokens=50 + number).text == "The answer."
        assert time.monotonic() - began < 10


def test_what_makes_no_sense_or_is_of_the_future_is_not_taken_over(board, machine):
    ours = machine("one", ARGOS_LANE_CODER_URL="http://a:1")
    ours.health.alive("http://a:1", None)
    key = ours.health.key("http://a:1", None)
    now = time.time()
    sense = {"trips": 1, "shut_until": now + 60, "reason": "timeout", "changed_at": now}
    for nonsense in (
        "no JSON",
        "[]",
        json.dumps(sense | {"trips": "many"}),
        json.dumps(sense | {"shut_until": 1e999}),
        json.dumps(sense | {"changed_at": now + 1_000}),
        json.dumps(sense | {"trips": -1}),
    ):
        board.write({key: nonsense})
        run(ours.share())
        assert ours.health.status("http://a:1").state is State.READY
    board.write({key: json.dumps(sense)})
    run(ours.share())
    assert ours.health.status("http://a:1").state is State.OPEN


def test_a_key_that_one_machine_lacks_is_not_the_others_fault(tmp_path):
    health = Health(tmp_path / "page")
    for effect in (Effect.MISCONFIGURED, Effect.OVERLOADED, Effect.LOADING):
        health.enter("http://a:1")
        health.leave("http://a:1", None, effect, reason="x")
    assert health.breakers() == {}


def test_calls_go_on_while_the_board_is_asked(lanes):
    class Slow:
        asked = 0

        def read(self, keys):
            Slow.asked += 1
            time.sleep(3)
            return {}

        def write(self, texts):
            time.sleep(3)

    with serving() as server:
        ours = lanes(ARGOS_LANE_CODER_URL=server.url)
        ours._board = Slow()
        began = time.monotonic()
        for number in range(20):
            ours.complete(Lane.CODER, HELLO, max_tokens=50 + number)
        assert time.monotonic() - began < 3
        assert Slow.asked == 1


def test_a_lane_that_fails_tells_it_too(machine, board):
    dead = nobody()
    ours = machine("one", ARGOS_LANE_CODER_URL=dead)
    with pytest.raises(LaneFailed):
        ours.complete(Lane.CODER, HELLO, max_tokens=5, timeout=3)
    key = ours.health.key(dead, None)
    wait_for(lambda: board.read([key]))
    assert json.loads(board.read([key])[key])["trips"] == 1


def test_who_comes_late_to_probe_takes_over_what_came_of_it(machine, monkeypatch):
    monkeypatch.setattr("cortex_pipelines.lanes.health.OPEN_SECONDS", 0.5)
    answers = {"now": BOOM}
    with serving(lambda _: answers["now"]) as ill, serving() as well:
        one, two = (machine(name, ARGOS_LANE_CODER_URL=f"{ill.url},{well.url}") for name in ("one", "two"))
        for _ in range(3):
            one.complete(Lane.CODER, HELLO, max_tokens=50)
        time.sleep(1.1)
        two.health.alive(ill.url, None)
        run(one.share())
        run(two.share())
        answers["now"] = Answer()

        def mended():
            one.complete(Lane.CODER, HELLO, max_tokens=5)
            return one.health.status(ill.url).state is State.READY

        wait_for(mended, 20)
        run(one.share())
        before = len(ill.asked)

        def taken_over():
            # The lease may still be the other's, who gives it back in the background.
            run(two._probe(two.resolve(Lane.CODER).endpoints[0]))
            return two.health.status(ill.url).state is State.READY

        wait_for(taken_over, 20)
        assert len(ill.asked) == before
