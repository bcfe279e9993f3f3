"""Vendors' exports of chats as transcripts with messages."""

import json
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex_pipelines.ingest.chats import exports, parse_chat, people_of, read_export
from cortex_pipelines.ingest.chats.assistants import branches
from cortex_pipelines.ingest.chats.transcripts import Said, render
from cortex_pipelines.ingest.parsing import Parsed
from cortex_pipelines.ingest.reader import DocumentReader
from tests.ingest.chat_exports import (
    EXPORTS,
    GEMINI_PAGE,
    SLACK_USERS,
    as_bytes,
    chatgpt,
    chatgpt_message,
    chatgpt_node,
    claude,
    discord,
    gemini,
    slack,
    telegram,
)


def read(export, name="export.json", **others):
    parsed = read_export(name, as_bytes(export), **others)
    assert parsed is not None
    assert_stands(parsed)
    return parsed


def assert_stands(parsed: Parsed) -> None:
    """What holds of every export: lines quote their messages, and the text alone gives the same messages."""
    lines = parsed.text.split("\n")
    parsed.text.encode()
    for number, message in enumerate(parsed.messages, 1):
        quoted = "\n".join(lines[message.line_start - 1 : message.line_end])
        assert message.text in quoted
        assert quoted.startswith(f"**{message.speaker}** ({message.time or 'no time'}):")
        assert message.number == number
        assert message.parent is None or 1 <= message.parent < number
    for heading in parsed.headings:
        assert lines[heading.line - 1] == f"{'#' * heading.level} {heading.text}"
    assert parse_chat(parsed.text) == tuple(replace(message, parent=None) for message in parsed.messages)


def told(parsed):
    return [
        (message.speaker, message.time, message.text, message.thread, message.parent) for message in parsed.messages
    ]


def test_chatgpt_gives_every_branch_the_current_one_first_without_what_is_hidden():
    parsed = read(chatgpt(), "conversations.json")
    assert told(parsed) == [
        ("user", "2024-11-05T09:46:40Z", "How many?", "Counting", None),
        ("assistant", "2024-11-05T09:46:42Z", "```python\nprint(6 * 7)\n```", "Counting", 1),
        ("python", "", "```output\n42\n```", "Counting", 2),
        ("assistant", "2024-11-05T09:46:44Z", "[image]\nIt is 42.", "Counting", 3),
        ("assistant", "2024-11-05T09:46:41Z", "Forty.", "Counting, branch 2", 1),
        ("user", "2024-11-06T13:33:20Z", "Anything else?", "Counting (2)", None),
    ]
    assert [heading.text for heading in parsed.headings] == [
        "ChatGPT export",
        "Counting",
        "Counting, branch 2",
        "Counting (2)",
    ]
    assert parsed.details == {
        "export": "ChatGPT",
        "messages": "6",
        "from": "2024-11-05T09:46:40Z",
        "until": "2024-11-06T13:33:20Z",
        "left out": "2 hidden",
    }
    assert parsed.media_type == "application/json"


def test_one_conversation_of_chatgpt_alone_is_read_too():
    assert len(read(chatgpt()[0]).messages) == 5


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"content_type": "system_error", "name": "Timeout", "text": "took too long"}, "took too long"),
        ({"content_type": "tether_quote", "title": "A", "url": "https://e.org", "text": "q"}, "A\nhttps://e.org\nq"),
        ({"content_type": "tether_browsing_display", "result": "L0", "summary": "s"}, "L0\ns"),
        ({"content_type": "code", "language": "unknown", "text": "{}"}, "```\n{}\n```"),
        ({"content_type": "code", "language": "md", "text": "```\nx\n```"}, "````md\n```\nx\n```\n````"),
        (
            {
                "content_type": "multimodal_text",
                "parts": [
                    {"content_type": "audio_transcription", "text": "Hello"},
                    {"content_type": "audio_asset_pointer"},
                ],
            },
            "Hello\n[audio]",
        ),
        ({"content_type": "of the future", "parts": ["said"]}, "said"),
        ({"content_type": "text", "parts": ['By \ue200entity\ue202["people","Ada",""]\ue201.']}, "By Ada."),
    ],
)
def test_kinds_of_content_of_chatgpt(content, text):
    nodes = {"a": chatgpt_node("a", None, [], chatgpt_message("assistant", content, 1730800000))}
    assert [message.text for message in read([{"title": "T", "mapping": nodes}]).messages] == [text]


def test_claude_gives_code_and_attached_texts_as_documents():
    parsed = read(claude(), "conversations.json")
    assert told(parsed) == [
        (
            "human",
            "2026-03-02T10:00:01Z",
            "Name this file.\n\n[attachment: notes.txt]\n\nPasted.\n\n[image: plan.png]",
            "Naming",
            None,
        ),
        (
            "assistant",
            "2026-03-02T10:00:02Z",
            "Here.\n\n[tool artifacts: name.py]\n```python\nNAME = 1\n```\n\n```output\nOK\n```",
            "Naming",
            None,
        ),
    ]
    assert [(part.name, part.data) for part in parsed.parts] == [("notes.txt", b"Day one.\n")]
    assert parsed.details["left out"] == "1 hidden"


def test_claude_with_branches_has_the_last_leaf_first():
    root = "00000000-0000-4000-8000-000000000000"
    messages = [
        {"uuid": key, "sender": sender, "text": key, "parent_message_uuid": parent}
        for key, sender, parent in [
            ("a", "human", root),
            ("b", "assistant", "a"),
            ("c", "assistant", "a"),
            ("d", "human", "c"),
        ]
    ]
    parsed = read({"uuid": "1", "name": "N", "chat_messages": messages})
    assert [(m.text, m.thread, m.parent) for m in parsed.messages] == [
        ("a", "N", None),
        ("c", "N", 1),
        ("d", "N", 2),
        ("b", "N, branch 2", 1),
    ]


def test_gemini_gives_prompts_and_answers_from_the_oldest_on():
    parsed = read(gemini(), "MyActivity.json")
    assert told(parsed) == [
        ("user", "2026-03-02T10:00:00Z", "What is a lane?", "Gemini, 2026-03-02", None),
        (
            "Gemini",
            "2026-03-02T10:00:00Z",
            "A **way** to a [model](https://example.org/m).\n\n- one",
            "Gemini, 2026-03-02",
            1,
        ),
        ("user", "2026-03-02T10:05:00Z", "And in code?\n[image: sketch-1a2b.png]", "Gemini, 2026-03-02", None),
        ("Gemini", "2026-03-02T10:05:00Z", "So:\n\n```python\nx = 1\ny = 2\n```", "Gemini, 2026-03-02", 3),
    ]
    assert parsed.details["left out"] == "1 no prompt"


def test_the_page_of_gemini_is_read_and_a_time_of_another_country_stays_as_written():
    parsed = read_export("MyActivity.html", GEMINI_PAGE.encode())
    assert_stands(parsed)
    assert parsed.media_type == "text/html"
    assert told(parsed) == [
        ("user", "10 de mar. de 2026, 03:46:09 BRT", "What first?", "Gemini, without a date", None),
        ("Gemini", "10 de mar. de 2026, 03:46:09 BRT", "First x.", "Gemini, without a date", 1),
        ("user", "2026-03-02T15:05:00Z", "And then?\nAttached 1 file.", "Gemini, 2026-03-02", None),
        ("Gemini", "2026-03-02T15:05:00Z", "Then `y`.", "Gemini, 2026-03-02", 3),
    ]


def test_slack_has_names_links_and_threads_in_one_piece():
    people = people_of("users.json", as_bytes(SLACK_USERS))
    assert people == {"U01": "Ana B", "U02": "jonas"}
    parsed = read(slack(), "export.zip/general/2026-03-02.json", people=people)
    thread = "general, thread of 2026-03-02T10:00:00Z"
    assert told(parsed) == [
        (
            "Ana B",
            "2026-03-02T10:00:00Z",
            "What if @jonas reads [the plan](https://example.org/?b=1&c=2) in #general & asks?",
            thread,
            None,
        ),
        (
            "jonas",
            "2026-03-02T10:02:00Z",
            "Done:\n```\nx < 1\n```\nsee https://example.org\n[attachment: plan.pdf]\n[image]",
            thread,
            1,
        ),
        ("U03", "2026-03-02T10:01:00Z", "@here lunch?", "general", None),
        ("deploy", "2026-03-02T10:03:00Z", "Deployed.\nBuild 7", "general", None),
    ]
    assert parsed.details["left out"] == "1 notices"


def test_slack_without_its_users_takes_names_from_the_messages():
    parsed = read(slack(), "general/2026-03-02.json")
    assert [message.speaker for message in parsed.messages] == ["ana", "U02", "U03", "deploy"]


def test_channels_of_slack_are_names_too_and_other_lists_are_nobody():
    channels = [{"id": "C01", "name": "general", "created": 1, "members": ["U01"]}]
    assert people_of("channels.json", as_bytes(channels)) == {"C01": "general"}
    for other in ([], {}, [{"id": 1, "name": "x"}], [{"id": "a-1", "name": "x", "created": 1}], slack()):
        assert people_of("users.json", as_bytes(other)) is None
    assert people_of("users.json", b'[{"id": "U01", "name": "x", "created"') is None


def test_discord_has_replies_embeds_and_attachments():
    parsed = read(discord())
    assert told(parsed) == [
        (
            "Ana (QA)",
            "2026-03-02T09:00:00Z",
            "```py\nx = 1\n```\n[Docs](https://example.org/d)\nHow to\n[image: a.png]\n[sticker: wave]",
            "Kestrel #dev",
            None,
        ),
        ("jo", "2026-03-02T10:02:00Z", "Nice.", "Kestrel #dev", 1),
    ]


@pytest.mark.parametrize("export", [telegram(), {"about": "", "chats": {"list": [telegram()]}}])
def test_telegram_has_one_chat_or_all(export):
    assert told(read(export)) == [
        ("Ana", "2026-03-02T10:00:00Z", "Look:\n```python\nx = 1\n```\n`x`", "Kestrel team", None),
        ("unknown", "2026-03-02T10:01:00Z", "[image]", "Kestrel team", 1),
    ]


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (
            b'\xef\xbb\xbfAuthorID,Author,Date,Content,Attachments,Reactions\r\n1,ana,2026-03-02T10:00:00+00:00,"Hi,\r\nyou",'
            b"https://example.org/x/a.png,\r\n",
            [("ana", "2026-03-02T10:00:00Z", "Hi,\nyou\n[image: a.png]", "Messages", None)],
        ),
        (
            b"timestamp;user;message;channel\n2026-03-02 10:00;Jo;Hello;dev\n1772445600;Ana;Yes;dev\n",
            [("Jo", "2026-03-02 10:00", "Hello", "dev", None), ("Ana", "2026-03-02T10:00:00Z", "Yes", "dev", None)],
        ),
        (b"Date\tFrom\tBody\n2.3.26\tAna\tYes\n", [("Ana", "2.3.26", "Yes", "Messages", None)]),
    ],
)
def test_a_table_is_a_chat_when_its_header_says_so(data, messages):
    parsed = read_export("any name", data)
    assert_stands(parsed)
    assert told(parsed) == messages


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"name,price\nx,1\n",
        b"hash,author,date,message\n1,ana,2026-03-02,Fix\n",
        b"time,user,text",
        b"[]",
        b"{}",
        b"[1, 2, 3]",
        b'{"mapping": {"a": {"author": 1}}}',
        b'[{"ts": "1772445600.000200"}]',
        b"<html><body>outer-cell content-cell Gemini</body></html>",
        as_bytes(chatgpt())[:-200],
        as_bytes(chatgpt()).replace(b"Counting", b"\xff\xfe"),
        b'{"mapping": "author' + b"[" * 100_000,
        b'[{"ts":' + b"[" * 1_000_000,
        b'[{"ts":' + b"9" * 10_000 + b"}]",
        # Nothing is left of it but a notice.
        as_bytes(slack()[:1]),
    ],
)
def test_what_is_no_export_or_a_broken_one_is_none(data):
    assert read_export("conversations.json", data) is None


def test_a_loop_in_the_tree_ends_and_no_message_is_lost():
    nodes = {
        key: chatgpt_node(key, parent, [key, parent], chatgpt_message("user", f"I am {key}", 1730800000))
        for key, parent in [("a", "b"), ("b", "a"), ("c", "c"), ("d", "gone"), ("e", "d")]
    }
    parsed = read([{"title": "Loop", "current_node": "a", "mapping": nodes}])
    assert sorted(message.text for message in parsed.messages) == [f"I am {key}" for key in "abcde"]


def test_identifiers_that_occur_twice_lose_no_message():
    messages = [{"uuid": "m", "sender": "human", "text": str(n), "parent_message_uuid": "m"} for n in range(5)]
    parsed = read([{"name": "N", "chat_messages": messages}, {"name": "N", "chat_messages": messages}])
    assert sorted(message.text for message in parsed.messages) == sorted("0123401234")


def test_an_export_is_told_from_its_content_in_the_process_that_parses_documents():
    with DocumentReader() as reader:
        parsed = reader.parse("notes.txt", as_bytes(chatgpt()))
        assert parsed == read_export("notes.txt", as_bytes(chatgpt()))
        assert reader.parse("conversations.json", b'{"no": "chat"}').messages == ()


def test_what_is_deep_is_read_in_a_line_not_by_recursion():
    count = 20_000
    nodes = {
        str(n): chatgpt_node(str(n), str(n - 1) if n else None, [], chatgpt_message("user", "x", 1730800000))
        for n in range(count)
    }
    parsed = read_export("c.json", as_bytes([{"title": "T", "mapping": nodes, "current_node": str(count - 1)}]))
    assert len(parsed.messages) == count
    assert parsed.messages[-1].parent == count - 1


def test_a_value_that_is_longer_than_what_is_read_at_once_is_read_whole(monkeypatch):
    monkeypatch.setattr(exports, "CHUNK_BYTES", 7)
    whole = json.dumps(chatgpt() * 3, ensure_ascii=False).replace("Counting", "Zählen \U0001f426").encode()
    assert len(read_export("c.json", whole).messages) == 18


def test_more_messages_than_rows_stay_in_the_transcript(monkeypatch):
    monkeypatch.setattr("cortex_pipelines.ingest.chats.transcripts.MESSAGES", 2)
    parsed = read(slack())
    assert len(parsed.messages) == 2
    assert parsed.details["messages"] == "4"
    assert "Deployed." in parsed.text


# Letters that lines, Markdown and transcripts are made of, and what is not to be in a text at all
ODD = st.text(
    st.one_of(
        st.sampled_from("\n\r\t `~#*_()[]:|<>@&!\\-0189\x00\x0b\x1b\x85\u2028\u202e\u200e\ud800\udfff\U0001f426aZ"),
        st.characters(exclude_categories=[]),
    ),
    max_size=60,
)
LIKE = st.sampled_from(
    [
        "**Bob** (2026-03-02T10:00:00Z): hi",
        "**Bob** (no time):",
        "## Thread",
        "# Chat export",
        "```python",
        "~~~",
        "[2026-03-02 10:00] Ana: hi",
        "",
        "  ",
    ]
)
TEXT = st.one_of(ODD, st.lists(st.one_of(ODD, LIKE), max_size=5).map("\n".join))
TIME = st.one_of(ODD, st.just("2026-03-02T10:00:00Z"))
KEY = st.sampled_from("abc")
SAID = st.builds(Said, ODD, TIME, TEXT, st.one_of(KEY, ODD), KEY, KEY)


@settings(max_examples=200)
@given(st.lists(SAID, max_size=8))
def test_whatever_is_said_is_read_back_from_its_transcript(said):
    transcript = render("Chat", said)
    parsed = Parsed("text/plain", transcript.text, transcript.headings, messages=transcript.messages)
    if transcript.messages:
        assert_stands(parsed)


@settings(max_examples=200)
@given(st.dictionaries(st.integers(0, 12), st.integers(0, 14), max_size=12), st.integers(0, 14))
def test_branches_hold_every_node_once_and_begin_with_the_current_path(parents, current):
    tree = {str(key): str(parent) for key, parent in parents.items()}
    paths = list(branches(tree, str(current)))
    assert sorted(key for path in paths for key in path) == sorted(tree)
    if str(current) in tree:
        assert paths[0][-1] == str(current)
    for path in paths:
        assert all(tree[child] == parent for parent, child in pairwise(path))


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        ODD,
        st.sampled_from(["1e999", "1772445600", "root", "ask"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ODD, inner, max_size=3)),
    max_leaves=6,
)


def mutated(value, chance: random.Random, replacement, rate: float):
    """A copy in which some values are others, gone, doubled or under another's key."""
    if chance.random() < rate:
        return replacement
    if isinstance(value, dict):
        pairs = [(key, mutated(inner, chance, replacement, rate)) for key, inner in value.items()]
        pairs = [pair for pair in pairs if chance.random() > rate]
        if len(pairs) > 1 and chance.random() < rate:
            pairs[0] = (pairs[0][0], pairs[-1][1])
        return dict(pairs)
    if isinstance(value, list):
        copies = [mutated(inner, chance, replacement, rate) for inner in value]
        return copies * 2 if chance.random() < rate else copies
    return value


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(EXPORTS)), st.randoms(use_true_random=False), JSON, st.sampled_from([0.02, 0.1, 0.3]))
def test_a_mutated_export_is_read_or_is_none(vendor, chance, replacement, rate):
    parsed = read_export("a/b.json", as_bytes(mutated(EXPORTS[vendor](), chance, replacement, rate)))
    if parsed is not None:
        assert_stands(parsed)


@settings(max_examples=200)
@given(
    st.sampled_from([*(as_bytes(EXPORTS[vendor]()) for vendor in sorted(EXPORTS)), GEMINI_PAGE.encode()]),
    st.lists(st.tuples(st.floats(0, 0.999), st.binary(max_size=4)), min_size=1, max_size=4),
)
def test_mutated_bytes_are_read_or_are_none(data, changes):
    for place, put in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + len(put) :]
    people_of("users.json", data)
    parsed = read_export("export", data)
    if parsed is not None:
        assert_stands(parsed)


@settings(max_examples=200)
@given(st.lists(st.tuples(ODD, ODD, ODD), max_size=5))
def test_a_table_of_anything_is_read_or_is_none(rows):
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    parsed = read_export("t.csv", "\n".join(["date,author,text", *quoted]).encode("utf-8", "replace"))
    if parsed is not None:
        assert_stands(parsed)
