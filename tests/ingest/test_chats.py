"""Chat exports as messages."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.ingest.chats import parse_chat
from cortex_pipelines.ingest.chats.transcripts import MESSAGE_CHARACTERS

FORMATS = {
    "bold": "**{name}** ({time}): {text}",
    "plain": "{name} ({time}): {text}",
    "bracketed": "[{time}] {name}: {text}",
    "dashed": "{time} - {name}: {text}",
}


@pytest.mark.parametrize("form", FORMATS)
def test_messages_have_their_speaker_time_text_and_lines(form):
    said = [
        ("Ana", "2026-03-02 10:14", "Hello."),
        ("Jo B.", "2026-03-02 10:15", "Hi\nthere"),
        ("Ana", "2026-03-02 10:16", "Bye"),
    ]
    text = "\n".join(FORMATS[form].format(name=name, time=time, text=words) for name, time, words in said)
    messages = parse_chat(text)
    assert [(m.speaker, m.time, m.text) for m in messages] == said
    assert [(m.line_start, m.line_end) for m in messages] == [(1, 1), (2, 3), (4, 4)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# A heading\n\nSome prose (really): with a colon.\n",
        "2026-01-01 10:00:00 INFO worker: started\n" * 5,
        "[2026-01-01 10:00:00] ERROR: it broke\n" * 5,
        "**Ana** (10:14): alone\n",
    ],
)
def test_what_is_no_chat_has_no_messages(text):
    assert parse_chat(text) == ()


@given(st.text(max_size=500))
def test_any_text_is_read_and_lines_stay_within_it(text):
    lines = text.count("\n") + 1
    for message in parse_chat(text):
        assert 1 <= message.line_start <= message.line_end <= lines


def told(text):
    return [(m.speaker, m.time, m.text, m.thread) for m in parse_chat(text)]


@pytest.mark.parametrize(
    "text",
    [
        "12/03/24, 10:14 - Messages are encrypted.\n12/03/24, 10:14 - Ana: Hi\n12/03/24, 10:15 - Ana added Jo\n"
        "12/03/24, 10:15 - +49 170 1234567: Who\nis this?\n12/03/24, 10:16 - Ana: Jo\n",
        "\u200e[12/03/24, 10:14:05\u202fPM] Ana: Hi\n[12/03/24, 10:15:00\u202fPM] Ana added Jo\n"
        "[12/03/24, 10:15:01\u202fPM] +49 170 1234567: Who\nis this?\n\u200e[12/03/24, 10:16:00\u202fPM] Ana: Jo\n",
    ],
)
def test_whatsapp_has_marks_numbers_and_notices_that_are_nobodys(text):
    assert [(m.speaker, m.text) for m in parse_chat(text)] == [
        ("Ana", "Hi"),
        ("+49 170 1234567", "Who\nis this?"),
        ("Ana", "Jo"),
    ]


@pytest.mark.parametrize(
    "form", ["## {}\n\n{}\n\n", "**{}:** {}\n\n", "{}: {}\n", "#### {}:\n{}\n", "{} said:\n{}\n\n", "**{}**: {}\n"]
)
def test_a_chat_with_a_model_is_told_by_its_roles(form):
    said = [("You", "Which one?"), ("ChatGPT", "The first."), ("You", "Why?")]
    found = parse_chat("# A talk\n\n" + "".join(form.format(*one) for one in said))
    assert [(m.speaker, m.text) for m in found] == said
    assert {m.thread for m in found} == {"A talk"}


@pytest.mark.parametrize(
    "text",
    [
        # Roles of a system are no talk, and an example in a block is none of the document's.
        "## User\n\nA person.\n\n## System\n\nA machine.\n\n## Tool\n\nA thing.\n",
        "How to ask:\n\n```\nUser: a\nAssistant: b\nUser: c\n```\n",
        "user: a\nassistant: b\nuser: c\n",
    ],
)
def test_roles_alone_are_no_chat(text):
    assert parse_chat(text) == ()


def test_channels_above_messages_are_their_threads_and_not_what_was_said():
    text = (
        "# general\n\n**Ana** (10:14): One\n\n## A heading\n\nof hers\n\n**Jo** (10:15 AM): Two\n\n"
        "# random\n\n**Ana** (2026-03-02T10:16:00Z): Three\n"
    )
    assert told(text) == [
        ("Ana", "10:14", "One\n\n## A heading\n\nof hers", "general"),
        ("Jo", "10:15 AM", "Two", "general"),
        ("Ana", "2026-03-02T10:16:00Z", "Three", "random"),
    ]


def test_what_looks_like_another_form_was_said():
    text = "\n".join(
        f"**{name}** (2026-03-02 10:1{number}): Look\n[2026-03-01 09:00:0{number}] worker: lost\nUser: x"
        for number, name in enumerate(["Ana", "Jo", "Ana"])
    )
    assert [m.text.count("\n") for m in parse_chat(text)] == [2, 2, 2]


def test_a_message_of_one_long_line_is_kept_to_its_limit():
    text = "\n".join(f"Ana (10:1{number}): {'x' * 30_000}" for number in range(3))
    assert [len(m.text) for m in parse_chat(text)] == [MESSAGE_CHARACTERS] * 3


@given(st.integers(1, 4), st.sampled_from(["*", " ", "(", "[", "1/", "A", "-", "1:11 ", "\u200e", "#", "`"]))
def test_lines_made_to_match_almost_take_no_long_time(count, piece):
    text = "10:14 10:14 10:14\n" + (piece * 20_000 + "\n") * count * 20
    began = process_time()
    parse_chat(text)
    assert process_time() - began < 1
