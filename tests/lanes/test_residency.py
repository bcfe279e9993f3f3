"""Which models are in memory: loaded when they are needed, let go when room is, and room made for a large job."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from cortex_pipelines.lanes import LaneFailed, Request
from cortex_pipelines.lanes.client import run
from cortex_pipelines.lanes.errors import AttemptError, Overloaded
from cortex_pipelines.lanes.health import State
from cortex_pipelines.names import Lane
from tests.servers.faults import Answer, serving
from tests.servers.keepers import Router, Swap, Vllm

ROOT = Path(__file__).parents[2]
HELLO = [{"role": "user", "content": "Say something."}]
KEEPERS = {
    "llama.cpp's router": lambda: Router(["m", "other"]),
    "llama-swap": lambda: Swap(["m", "other"]),
    "vLLM": lambda: Vllm(["m"]),
}


def first(lanes, lane=Lane.CODER):
    return lanes.resolve(lane).endpoints[0]


@pytest.mark.parametrize("keeper", KEEPERS.values(), ids=KEEPERS)
def test_a_call_wakes_the_model_that_it_needs_and_only_once(lanes, keeper):
    keeper = keeper()
    keeper.seconds = 0.3
    with serving(keeper=keeper) as server:
        ours = lanes(ARGOS_LANE_CODER_URL=server.url, ARGOS_LANE_CODER_MODEL="m")
        done = ours.map(Lane.CODER, [Request(HELLO, 50 + number) for number in range(6)], in_flight=6)
    assert {answer.text for answer in done} == {"The answer."}
    assert keeper.commands == ["load m"]
    assert ours.health.status(server.url, "m").state is State.READY


@pytest.mark.parametrize("keeper", KEEPERS.values(), ids=KEEPERS)
def test_a_model_is_let_go_when_its_calls_have_ended_and_no_new_one_begins_meanwhile(lanes, keeper):
    keeper = keeper()
    keeper.load("m")
    with serving([Answer(pause=0.2), Answer()], keeper=keeper) as server, serving(Answer(text="Another.")) as other:
        urls = {"ARGOS_LANE_CODER_URL": server.url, "ARGOS_LANE_CODER_MODEL": "m"}
        ours = lanes(**urls, ARGOS_LANE_ORCHESTRATOR_URL=other.url)
        said = []
        slow = threading.Thread(target=lambda: said.append(ours.complete(Lane.CODER, HELLO, max_tokens=50)))
        slow.start()
        while not server.active:
            time.sleep(0.01)
        going = threading.Thread(target=lambda: run(ours.residency.unload(first(ours))))
        going.start()
        while ours.health.status(server.url, "m").state is not State.DRAINING:
            time.sleep(0.01)
        assert ours.complete(Lane.CODER, HELLO, max_tokens=51).text == "Another."
        slow.join()
        going.join()
        assert said[0].text == "The answer."
        assert keeper.commands[1:] == ["unload m"]
        assert ours.complete(Lane.CODER, HELLO, max_tokens=52).text == "The answer."
    assert keeper.commands[1:] == ["unload m", "load m"]


def test_a_model_whose_calls_do_not_end_stays(lanes):
    keeper = Router(["m"], {"m"})
    with serving(Answer(stall=2), keeper=keeper) as server:
        ours = lanes(ARGOS_LANE_CODER_URL=server.url, ARGOS_LANE_CODER_MODEL="m")
        with pytest.raises(LaneFailed):
            ours.complete(Lane.CODER, HELLO, max_tokens=1, timeout=0.2)
        ours.health.enter(server.url, "m")
        with pytest.raises(Overloaded, match="1 calls are still under way"):
            run(ours.residency.unload(first(ours), seconds=0.3))
        assert ours.health.status(server.url, "m").state is State.READY
    assert keeper.commands == []


def test_a_model_that_does_not_come_up_is_passed_by(lanes, monkeypatch):
    monkeypatch.setattr("cortex_pipelines.lanes.residency.NO_START_SECONDS", 0.2)
    keeper = Router(["m"], broken={"m"})
    with serving(keeper=keeper) as server, serving(Answer(text="Another.")) as other:
        urls = {"ARGOS_LANE_CODER_URL": server.url, "ARGOS_LANE_CODER_MODEL": "m"}
        done = lanes(**urls, ARGOS_LANE_ORCHESTRATOR_URL=other.url).complete(Lane.CODER, HELLO, max_tokens=50)
    assert done.text == "Another."
    assert keeper.commands == ["load m"]


def asleep_at(server, level):
    httpx.post(f"{server.url}/sleep?level={level}&mode=wait").raise_for_status()


@pytest.mark.parametrize(("level", "setting"), [(1, "1"), (1, "2"), (2, "2"), (2, "1")])
def test_weights_that_were_discarded_are_read_again_whoever_discarded_them(lanes, level, setting):
    keeper = Vllm(["m"], {"m"})
    with serving(keeper=keeper) as server:
        asleep_at(server, level)
        ours = lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_SLEEP_LEVEL=setting)
        assert ours.complete(Lane.CODER, HELLO, max_tokens=50).text == "The answer."
    assert ("read m" in keeper.commands) is (level == 2 or setting == "2")


@pytest.mark.parametrize("setting", ["1", "2"])
def test_a_model_is_put_to_sleep_as_deep_as_is_set(lanes, setting):
    keeper = Vllm(["m"], {"m"})
    with serving(keeper=keeper) as server:
        ours = lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_SLEEP_LEVEL=setting)
        assert run(ours.residency.unload(first(ours)))
    assert keeper.level == int(setting)


def test_a_model_half_awake_is_woken_by_whoever_comes_after_the_one_that_was_killed(lanes):
    keeper = Vllm(["m"], {"m"})
    with serving(keeper=keeper) as server:
        asleep_at(server, 2)
        httpx.post(f"{server.url}/wake_up?tags=weights").raise_for_status()
        assert httpx.get(f"{server.url}/is_sleeping").json() == {"is_sleeping": True}
        ours = lanes(ARGOS_LANE_CODER_URL=server.url)
        assert ours.complete(Lane.CODER, HELLO, max_tokens=50).text == "The answer."


def test_a_model_whose_weights_cannot_be_read_again_stays_asleep_and_another_answers(lanes):
    keeper = Vllm(["m"], {"m"}, unreadable=True)
    with serving(keeper=keeper) as server, serving(Answer(text="Another.")) as other:
        asleep_at(server, 2)
        ours = lanes(ARGOS_LANE_CODER_URL=server.url, ARGOS_LANE_ORCHESTRATOR_URL=other.url)
        done = ours.complete(Lane.CODER, HELLO, max_tokens=50)
        told = run(ours.residency.prewarm([Lane.CODER]))[Lane.CODER]
    assert done.text == "Another."
    assert told == "load failed: its weights could not be read again: 500 Internal Server Error"
    assert keeper.loaded == set()


def test_the_imitation_says_noise_when_it_is_woken_without_its_weights():
    with serving(keeper=Vllm(["m"], {"m"})) as server:
        asleep_at(server, 2)
        httpx.post(f"{server.url}/wake_up").raise_for_status()
        body = {"model": "m", "messages": HELLO, "max_tokens": 5}
        assert "!!!!" in httpx.post(f"{server.url}/v1/chat/completions", json=body).text


def gguf_variables(urls, model):
    """Three lanes, each with a model of its own and the file that says what it takes."""
    lanes = ("CODER", "GOVERNANCE", "SUPER_READER")
    named = {f"ARGOS_LANE_{lane}_URL": url for lane, url in zip(lanes, urls, strict=True)}
    named |= {f"ARGOS_LANE_{lane}_MODEL": name for lane, name in zip(lanes, ("a", "b", "c"), strict=True)}
    return named | {f"ARGOS_LANE_{lane}_MODEL_PATH": str(model) for lane in lanes}


def test_memory_for_two_models_never_holds_three_and_the_one_used_longest_ago_goes(lanes, tiny_model):
    keeper = Router(["a", "b", "c"], arguments={"c": ["--ctx-size", "1000"]})
    with serving(keeper=keeper) as server:
        variables = gguf_variables([server.url] * 3, tiny_model())
        # The weights are small: what counts is 300 MB of buffers for each, and the cache of the context.
        ours = lanes(**variables, CORTEX_MODEL_MEMORY="650MB")
        for lane in (Lane.CODER, Lane.GOVERNANCE, Lane.CODER, Lane.SUPER_READER, Lane.CODER):
            assert ours.complete(lane, HELLO, max_tokens=50).lane is lane
        assert keeper.commands == ["load a", "load b", "unload b", "load c"]
        assert keeper.most_loaded == 2
        with pytest.raises(AttemptError, match=r"0\.3 GB for the model and 0\.6 GB in use do not fit 0\.7 GB"):
            run(ours.residency.load(first(ours, Lane.GOVERNANCE), evict=False))
        small = lanes(**variables, CORTEX_MODEL_MEMORY="200MB", CORTEX_STATE=str(ours.folder / "small"))
        with pytest.raises(LaneFailed, match="do not fit"):
            small.complete(Lane.GOVERNANCE, HELLO, max_tokens=50, timeout=3)


def test_a_plan_warms_what_has_room_and_lets_go_of_nothing(lanes, tiny_model):
    keeper = Router(["a", "b", "c"])
    with serving(keeper=keeper) as server:
        ours = lanes(**gguf_variables([server.url] * 3, tiny_model()), CORTEX_MODEL_MEMORY="650MB")
        told = run(ours.residency.prewarm([Lane.CODER, Lane.GOVERNANCE, Lane.CODER]))
        assert told == {Lane.CODER: "loaded", Lane.GOVERNANCE: "loaded"}
        assert "do not fit" in run(ours.residency.prewarm([Lane.SUPER_READER]))[Lane.SUPER_READER]
        assert run(ours.residency.prewarm([Lane.CODER]))[Lane.CODER] == "as it was"
    assert sorted(keeper.commands) == ["load a", "load b"]


@pytest.fixture
def machine():
    """A vLLM and a router on one machine: the vLLM and the reader's usual model are in memory."""
    with ExitStack() as servers:
        vllm, router = Vllm(["coder"], {"coder"}), Router(["reader", "reader-wide", "guard"], {"reader", "guard"})
        one, two = (servers.enter_context(serving(keeper=keeper)) for keeper in (vllm, router))
        plain = servers.enter_context(serving(Answer(text="Another.")))
        variables = {
            "ARGOS_LANE_ORCHESTRATOR_URL": plain.url,
            "ARGOS_LANE_CODER_URL": one.url,
            "ARGOS_LANE_CODER_MODEL": "coder",
            "ARGOS_LANE_SUPER_READER_URL": two.url,
            "ARGOS_LANE_SUPER_READER_MODEL": "reader",
            "ARGOS_LANE_GOVERNANCE_URL": two.url,
            "ARGOS_LANE_GOVERNANCE_MODEL": "guard",
            "CORTEX_BURST_MODEL": "reader-wide",
        }
        yield vllm, router, variables


@pytest.mark.parametrize("fails", [False, True])
def test_a_burst_makes_room_and_restores_the_rest_also_when_the_job_fails(lanes, machine, fails):
    vllm, router, variables = machine
    ours = lanes(**variables)

    def job():
        with ours.residency.burst() as wide:
            assert (vllm.loaded, router.loaded) == (set(), {"reader-wide"})
            done = wide.complete(Lane.SUPER_READER, HELLO, max_tokens=50)
            assert done.attempts[-1].model == "reader-wide"
            # Whoever needs another model meanwhile goes along its chain, and wakes nothing.
            done = ours.complete(Lane.CODER, HELLO, max_tokens=51, timeout=5)
            assert done.text == "Another."
            assert "a large job" in ours.health.status(variables["ARGOS_LANE_CODER_URL"], "coder").reason
            assert (vllm.loaded, router.loaded) == (set(), {"reader-wide"})
            if fails:
                raise RuntimeError("the job")

    if fails:
        with pytest.raises(RuntimeError, match="the job"):
            job()
    else:
        job()
    assert (vllm.loaded, router.loaded) == ({"coder"}, {"reader", "guard"})
    assert ours.complete(Lane.CODER, HELLO, max_tokens=52).attempts[-1].model == "coder"
    assert not (ours.folder / "burst.json").exists()


def test_a_burst_that_cannot_have_its_model_says_so_and_restores(lanes, machine, monkeypatch):
    monkeypatch.setattr("cortex_pipelines.lanes.residency.NO_START_SECONDS", 0.2)
    vllm, router, variables = machine
    router.broken.add("reader-wide")
    with pytest.raises(LaneFailed, match="no room for a large job"), lanes(**variables).residency.burst():
        raise AssertionError("it began")
    assert (vllm.loaded, router.loaded) == ({"coder"}, {"reader", "guard"})


def test_a_server_that_is_started_anew_in_a_burst_makes_way_again(lanes, machine):
    vllm, router, variables = machine
    ours = lanes(**variables)
    with ours.residency.burst() as wide:
        # It comes back with its usual models.
        router.loaded = {"reader", "guard"}
        done = wide.complete(Lane.SUPER_READER, HELLO, max_tokens=50)
        assert done.attempts[-1].model == "reader-wide"
        assert (vllm.loaded, router.loaded) == (set(), {"reader-wide"})
    assert (vllm.loaded, router.loaded) == ({"coder"}, {"reader", "guard"})


BURST = """
import json, sys, time
from cortex_pipelines.lanes import Lanes
from cortex_pipelines.settings import load_settings
with Lanes(load_settings(json.loads(sys.argv[1]), env_file=None)).residency.burst():
    print("room", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_burst_left_is_restored_by_whoever_needs_it(lanes, machine, tmp_path):
    vllm, router, variables = machine
    ours = lanes(**variables)
    given = json.dumps(variables | {"CORTEX_STATE": str(tmp_path / "state")})
    job = subprocess.Popen([sys.executable, "-c", BURST, given], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert job.stdout.readline() == "room\n"
    assert (vllm.loaded, router.loaded) == (set(), {"reader-wide"})
    with pytest.raises(AttemptError, match="a large job has the room"):
        run(ours.residency.load(first(ours)))
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert ours.complete(Lane.CODER, HELLO, max_tokens=50, timeout=30).attempts[-1].model == "coder"
    assert (vllm.loaded, router.loaded) == ({"coder"}, {"reader", "guard"})
    assert not (ours.folder / "burst.json").exists()


LOAD = """
import json, sys
from cortex_pipelines.lanes import Lanes
from cortex_pipelines.lanes.client import run
from cortex_pipelines.names import Lane
from cortex_pipelines.settings import load_settings
lanes = Lanes(load_settings(json.loads(sys.argv[1]), env_file=None))
print("ready", flush=True)
sys.stdin.readline()
print(run(lanes.residency.load(lanes.resolve(Lane.CODER).endpoints[0])))
"""


@pytest.mark.heavy
def test_processes_that_need_one_model_load_it_once(tmp_path):
    keeper = Router(["m"], seconds=0.5)
    with serving(keeper=keeper) as server:
        given = {"ARGOS_LANE_CODER_URL": server.url, "ARGOS_LANE_CODER_MODEL": "m", "CORTEX_STATE": str(tmp_path)}
        command = [sys.executable, "-c", LOAD, json.dumps(given)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        running = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(4)]
        for process in running:
            assert process.stdout.readline() == "ready\n"
        told = [process.communicate("\n", timeout=60)[0].strip() for process in running]
    assert sorted(told) == ["False", "False", "False", "True"]
    assert keeper.commands == ["load m"]
