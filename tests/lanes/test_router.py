"""Residency against a real llama.cpp router: what the served imitation stands for, as it says it today."""

import os

import httpx
import pytest

from cortex_pipelines.lanes import LaneFailed
from cortex_pipelines.lanes.client import run
from cortex_pipelines.lanes.replies import Held, Keeper, refusal
from cortex_pipelines.names import Lane
from tests.servers import llama_router
from tests.servers.keepers import Router

pytestmark = pytest.mark.router
HELLO = [{"role": "user", "content": "Say something."}]
LANES = {"CODER": "one", "GOVERNANCE": "two", "SUPER_READER": "three"}


@pytest.fixture
def url(tmp_path, tiny_model):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF no more")
    models = {"one": (tiny_model("One."), 2048), "two": (tiny_model("Two."), 4096), "three": (tiny_model("Two."), 1024)}
    models |= {"wide": (tiny_model("Two."), 8192), "broken": (broken, 1024)}
    with llama_router.serving(os.environ["LLAMA_SERVER"], tmp_path, models, ["--no-models-autoload"]) as address:
        yield address


def variables(url, **more):
    named = {f"ARGOS_LANE_{lane}_URL": url for lane in LANES}
    return named | {f"ARGOS_LANE_{lane}_MODEL": model for lane, model in LANES.items()} | more


def loaded(url):
    rows = httpx.get(f"{url}/v1/models", timeout=10).json()["data"]
    return {row["id"] for row in rows if row["status"]["value"] == "loaded"}


def test_a_call_loads_its_model_and_knows_its_window(lanes, url):
    ours = lanes(**variables(url))
    assert loaded(url) == set()
    done = ours.complete(Lane.CODER, HELLO, max_tokens=50)
    assert (done.text, done.model) == ("One.", "one")
    told = run(ours.probe(ours.resolve(Lane.CODER).endpoints[0]))
    assert (told.keeper, told.held, told.argument("--ctx-size")) == (Keeper.LLAMA_ROUTER, Held.LOADED, "2048")
    assert told.size > 400_000
    assert told.version
    assert run(ours.residency.unload(ours.resolve(Lane.CODER).endpoints[0]))
    assert loaded(url) == set()
    assert ours.complete(Lane.CODER, HELLO, max_tokens=51).text == "One."


def test_memory_for_two_models_never_holds_three(lanes, url, tiny_model):
    files = {f"ARGOS_LANE_{lane}_MODEL_PATH": str(tiny_model("One.")) for lane in LANES}
    ours = lanes(**variables(url), **files, CORTEX_MODEL_MEMORY="650MB")
    for lane in (Lane.CODER, Lane.GOVERNANCE, Lane.CODER, Lane.SUPER_READER, Lane.GOVERNANCE):
        assert ours.complete(lane, HELLO, max_tokens=50).lane is lane
        assert len(loaded(url)) <= 2


def test_a_burst_makes_room_and_restores(lanes, url):
    ours = lanes(**variables(url, CORTEX_BURST_MODEL="wide"))
    run(ours.residency.prewarm([Lane.CODER, Lane.SUPER_READER]))
    assert loaded(url) == {"one", "three"}
    with ours.residency.burst() as wide:
        assert loaded(url) == {"wide"}
        long = [{"role": "user", "content": "x" * 5_000}]
        assert wide.complete(Lane.SUPER_READER, long, max_tokens=50).text == "Two."
        with pytest.raises(LaneFailed):
            ours.complete(Lane.SUPER_READER, long, max_tokens=50, timeout=2)
    assert loaded(url) == {"one", "three"}


def test_a_model_that_cannot_be_loaded_is_an_error_with_its_kind(lanes, url):
    ours = lanes(**variables(url) | {"ARGOS_LANE_CODER_MODEL": "broken"})
    endpoint = ours.resolve(Lane.CODER).endpoints[0]
    assert run(ours.residency.prewarm([Lane.CODER]))[Lane.CODER].startswith("load failed")
    assert run(ours.probe(endpoint)).held is Held.UNLOADED


def test_a_name_that_it_does_not_have_is_no_model_to_load(lanes, url):
    ours = lanes(**variables(url) | {"ARGOS_LANE_CODER_MODEL": "nobody"})
    done = ours.complete(Lane.CODER, HELLO, max_tokens=50)
    assert [attempt.outcome for attempt in done.attempts if attempt.model == "nobody"] == ["model not found"]
    assert loaded(url) == {"three"}


def test_the_imitation_answers_as_the_real_one(url):
    imitation = Router(["one", "two"])
    asked = [
        ("/models/load", {"model": "nobody"}),
        ("/models/unload", {"model": "nobody"}),
        ("/v1/chat/completions", {"model": "nobody", "messages": HELLO, "max_tokens": 5}),
        ("/models/unload", {"model": "one"}),
        ("/v1/chat/completions", {"model": "one", "messages": HELLO, "max_tokens": 5}),
        ("/models/load", {"model": "one"}),
        ("/models/load", {"model": "one"}),
    ]
    for path, body in asked:
        real = httpx.post(f"{url}{path}", json=body, timeout=20)
        status, told = imitation.answer("POST", path, real.request.content)
        assert (real.status_code, real.json()) == (status, httpx.Response(status, content=told).json())
        if status != 200:
            assert refusal(status, told).kind == refusal(real.status_code, real.content).kind
