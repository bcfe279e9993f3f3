"""Chat exports as messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.ingest.chats import parse_chat

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
