"""A call of a lane against real servers: answers, fallback with its trail, windows, and what is never an answer."""

import socket

import pytest

from cortex_pipelines.lanes import LaneFailed, Lanes, LaneUnresolved, Limits
from cortex_pipelines.retrieval.answering import ask
from cortex_pipelines.running import run_project
from cortex_pipelines.settings import Lane, load_settings
from cortex_pipelines.store import ProjectStore
from tests.lanes.faulty import serving

HELLO = [{"role": "user", "content": "Say something."}]


def lanes(**variables):
    return Lanes(load_settings(variables, env_file=None), Limits(connect=2, first=10, stall=0.5))


def nobody():
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_real_llama_cpp_server_answers(llama_saying):
    url = llama_saying("The ferry leaves at seven.")
    done = lanes(ARGOS_LANE_FAST_RAG_URL=f"{url}/v1").complete(Lane.FAST_RAG, HELLO, max_tokens=50)
    assert done.text == "The ferry leaves at seven."
    assert (done.lane, done.endpoint) == (Lane.FAST_RAG, url)
    assert [attempt.outcome for attempt in done.attempts] == ["answered"]
    assert done.completion_tokens


def test_a_dead_server_is_passed_by_and_the_trail_says_so(llama_saying):
    url, dead = llama_saying("The ferry leaves at seven."), nobody()
    done = lanes(ARGOS_LANE_CODER_URL=dead, ARGOS_LANE_ORCHESTRATOR_URL=url).complete(Lane.CODER, HELLO, max_tokens=50)
    assert [(a.lane, a.endpoint, a.outcome) for a in done.attempts] == [
        (Lane.CODER, dead, "connection"),
        (Lane.ORCHESTRATOR, url, "answered"),
    ]
    assert (done.lane, done.text) == (Lane.ORCHESTRATOR, "The ferry leaves at seven.")


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("500", "server error"),
        ("loading", "loading"),
        ("busy", "overloaded"),
        ("no model", "model not found"),
        ("unauthorised", "unauthorised"),
        ("not json", "server error"),
        ("cut", "stream cut"),
        ("reset", "stream cut"),
        ("stall", "timeout"),
        ("error in the stream", "server error"),
    ],
)
def test_each_fault_has_its_name_and_the_next_endpoint_answers(fault, outcome):
    with serving(fault) as (bad, _), serving("none") as (good, _):
        done = lanes(ARGOS_LANE_CODER_URL=f"{bad},{good}").complete(Lane.CODER, HELLO, max_tokens=50)
    assert [attempt.outcome for attempt in done.attempts] == [outcome, "answered"]
    assert done.text == "Half an answer."


@pytest.mark.parametrize("fault", ["500", "cut", "stall", "truncated", "error in the stream"])
def test_half_an_answer_or_an_error_is_never_an_answer(fault):
    with serving(fault) as (bad, _), pytest.raises(LaneFailed) as told:
        lanes(ARGOS_LANE_CODER_URL=bad).complete(Lane.CODER, HELLO, max_tokens=50)
    assert len(told.value.attempts) == 1
    assert "Half an" not in str(told.value)


def test_a_prompt_is_never_sent_to_a_window_too_small_for_it():
    long = [{"role": "user", "content": "word " * 500}]
    with serving("small window") as (small, sent), serving("none") as (wide, _):
        done = lanes(ARGOS_LANE_CODER_URL=small, ARGOS_LANE_SUPER_READER_URL=wide).complete(
            Lane.CODER, long, max_tokens=20
        )
        assert sent == []
        assert [(a.lane, a.outcome) for a in done.attempts] == [
            (Lane.CODER, "context overflow"),
            (Lane.SUPER_READER, "answered"),
        ]
        with pytest.raises(LaneFailed, match=r"tokens and 20 for the answer do not fit 50"):
            lanes(ARGOS_LANE_CODER_URL=small).complete(Lane.CODER, long, max_tokens=20)
    assert sent == []


def test_a_real_server_counts_the_prompt_before_it_is_sent(llama_server):
    huge = [{"role": "user", "content": "x" * 40_000}]
    with pytest.raises(LaneFailed, match="do not fit 32768"):
        lanes(ARGOS_LANE_CODER_URL=llama_server).complete(Lane.CODER, huge, max_tokens=20)


def test_no_endpoint_is_asked_twice():
    with serving("500") as (bad, asked):
        everything = {f"ARGOS_LANE_{lane}_URL": bad for lane in Lane} | {"ARGOS_LLM_BASE_URL": bad}
        with pytest.raises(LaneFailed):
            lanes(**everything).complete(Lane.CODER, HELLO, max_tokens=5)
    assert len(asked) == 1


def test_with_nothing_set_nothing_is_asked():
    with pytest.raises(LaneUnresolved, match="ARGOS_LANE_CODER_URL"):
        lanes().complete(Lane.CODER, HELLO, max_tokens=5)


@pytest.fixture
def snapshot(settings):
    folder = settings.inbox / "harbour"
    folder.mkdir()
    (folder / "ferry.md").write_text("# Ferries\n\nThe ferry to Skagen leaves at seven every morning.\n")
    run_project("harbour", settings)
    return ProjectStore(settings.store, "harbour", settings.state).snapshot()


QUESTION = "When does the ferry to Skagen leave?"


def test_an_answer_goes_through_the_lane_and_its_citation_is_verified(snapshot, llama_saying):
    url = llama_saying("It leaves at seven every morning [1].")
    answer = ask(snapshot, QUESTION, lanes(ARGOS_LANE_FAST_RAG_URL=url))
    assert (answer.text, answer.lane) == ("It leaves at seven every morning [1].", "FAST_RAG")
    assert answer.citations[0].source == "ferry.md"


def test_a_model_that_cites_nothing_that_is_there_is_not_believed(snapshot, llama_saying):
    url = llama_saying("It leaves at noon [99].")
    answer = ask(snapshot, QUESTION, lanes(ARGOS_LANE_FAST_RAG_URL=url))
    assert "noon" not in answer.text
    assert "leaves at seven" in answer.text
    assert answer.note


def test_when_no_server_answers_the_answer_is_the_extractive_one(snapshot):
    answer = ask(snapshot, QUESTION, lanes(ARGOS_LANE_FAST_RAG_URL=nobody()))
    assert "leaves at seven" in answer.text
    assert answer.lane is None
    assert "no lane answered" in answer.note
