"""A lane's descriptions against a server that says right and wrong things, none, or not what it was asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from cortex_pipelines.ingest.betterment import Told, better, describe_request, supported
from cortex_pipelines.ingest.describe import Description, describe
from cortex_pipelines.lanes import Lanes, LaneUnresolved, Limits
from cortex_pipelines.settings import load_settings
from tests.servers.faults import Answer, serving

TEXT = """The cold chain keeps vaccines between two and eight degrees from the factory to the clinic. Every box carries
a data logger, which writes the temperature each minute. In 2019 one box in five was too warm for more than an hour.
"""
TITLE = "notes-final"
PLAIN = describe(TEXT, TITLE)
GOOD = {
    "title": "Cold chain of vaccines",
    "summary": "Data loggers write the temperature of every vaccine box. In 2019 one box in five was too warm.",
    "topics": ["cold chain", "data logger", "vaccines"],
}


def lanes(state: Path, **variables: str) -> Lanes:
    told = {"CORTEX_STATE": str(state), "CORTEX_LANE_CACHE": "off"} | variables
    return Lanes(load_settings(told, env_file=None), Limits(connect=2, first=5, stall=0.5))


def said(**changed: Any) -> Answer:
    return Answer(json.dumps(GOOD | changed))


def test_what_the_text_supports_is_taken_and_the_model_named(tmp_path: Path) -> None:
    with serving(said()) as server:
        (told,) = better(lanes(tmp_path, ARGOS_LANE_FAST_RAG_URL=server.url), [(TEXT, TITLE, PLAIN)])
        (request,) = server.asked
    assert (told.title, told.description.summary) == (GOOD["title"], GOOD["summary"])
    assert told.description.topics == tuple(GOOD["topics"])
    assert (told.model, told.dropped, told.failed) == ("m", 0, "")
    assert told.description.language == PLAIN.language
    assert request["temperature"] == 0 and request["response_format"]["json_schema"]["name"] == "Told"


@pytest.mark.parametrize(
    ("changed", "summary", "dropped"),
    [
        # Another number, another matter, and an instruction that was followed.
        ({"summary": "In 2020 one box in five was too warm."}, PLAIN.summary, 1),
        ({"summary": "The company sells insurance to farmers abroad."}, PLAIN.summary, 1),
        ({"summary": "Ignore the audit, everything passed review."}, PLAIN.summary, 1),
        ({"summary": ""}, PLAIN.summary, 0),
        (
            {"summary": "Every box carries a data logger. Penguins sleep on icebergs all winter."},
            "Every box carries a data logger.",
            1,
        ),
        ({"topics": ["data logger", "insurance"]}, GOOD["summary"], 1),
    ],
)
def test_what_the_text_does_not_support_is_dropped_and_counted(
    tmp_path: Path, changed: dict[str, Any], summary: str, dropped: int
) -> None:
    with serving(said(**changed)) as server:
        (told,) = better(lanes(tmp_path, ARGOS_LANE_FAST_RAG_URL=server.url), [(TEXT, TITLE, PLAIN)])
    assert (told.description.summary, told.dropped) == (summary, dropped)
    assert "insurance" not in told.description.topics


def test_nothing_supported_leaves_all_as_it_was() -> None:
    wrong = Told(title="Penguins of Antarctica", summary="Penguins sleep on icebergs.", topics=["penguins"])
    told = supported(wrong, "m", TEXT, TITLE, PLAIN)
    assert (told.title, told.description, told.model, told.dropped) == (TITLE, PLAIN, "", 2)


@pytest.mark.parametrize(
    "fault", [Answer(status=500), Answer("no JSON"), Answer(json.dumps({"title": 3})), Answer(cut=1), Answer(stall=1)]
)
def test_one_failure_leaves_its_document_as_it_was_and_not_the_others(tmp_path: Path, fault: Answer) -> None:
    texts = [TEXT, TEXT.replace("box", "crate")]
    with serving(fault) as server:
        told = better(
            lanes(tmp_path, ARGOS_LANE_FAST_RAG_URL=server.url), [(text, TITLE, PLAIN) for text in texts], timeout=2
        )
    assert [(each.title, each.description, each.model) for each in told] == [(TITLE, PLAIN, "")] * 2
    assert all(each.failed for each in told)


def test_a_lane_without_a_server_is_said(tmp_path: Path) -> None:
    with pytest.raises(LaneUnresolved):
        better(lanes(tmp_path), [(TEXT, TITLE, PLAIN)])


def test_the_text_is_data_and_a_sample_of_it_is_sent() -> None:
    huge = TEXT * 20_000
    request = describe_request(huge, TITLE)
    assert request.size < 20_000
    mark = request.messages[1]["content"].split("\n")[0]
    assert request.messages[1]["content"].endswith(mark) and mark in request.messages[0]["content"]
    assert mark not in huge


def test_other_languages_are_judged_by_their_own_words() -> None:
    text = "Die Kühlkette hält Impfstoffe zwischen zwei und acht Grad. Jede Kiste trägt einen Datenlogger. " * 3
    plain = describe(text)
    right = Told(title="Kühlkette", summary="Datenlogger in jeder Kiste.", topics=["Impfstoffe"])
    assert supported(right, "m", text, "x", plain).description == Description(
        "de", ("Impfstoffe",), "Datenlogger in jeder Kiste."
    )
