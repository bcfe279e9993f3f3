"""Exports of chats: which vendor's they are, told by content, and their messages as a transcript."""

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from types import MappingProxyType
from typing import Any

from cortex_pipelines.ingest.chats import assistants, messengers, tables
from cortex_pipelines.ingest.chats.reading import Reading
from cortex_pipelines.ingest.chats.transcripts import Said, render
from cortex_pipelines.ingest.decoding import decode
from cortex_pipelines.ingest.parsing import Parsed

# How many values of a list are looked at to tell whose export it is: the first ones may be empty conversations.
LOOKED_AT = 100
# A list is decoded value by value, so that no more than one conversation is held as objects.
CHUNK_BYTES = 2**20
NOBODY: Mapping[str, str] = MappingProxyType({})


class _Malformed(Exception):
    """The bytes are no JSON."""


@dataclass(frozen=True)
class _Vendor:
    """A vendor's export: keys that are in every one of its files, and functions that tell it and read it."""

    name: str
    keys: tuple[bytes, ...]
    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Iterable[Mapping[str, Any]], Reading], Iterator[Said]]


_VENDORS = (
    _Vendor("ChatGPT", (b'"mapping"', b'"author"'), assistants.is_chatgpt, assistants.read_chatgpt),
    _Vendor("Claude", (b'"chat_messages"', b'"sender"'), assistants.is_claude, assistants.read_claude),
    _Vendor("Gemini", (b'"title"', b'"time"', b'"header"'), assistants.is_gemini, assistants.read_gemini),
    _Vendor("Slack", (b'"ts"',), messengers.is_slack, messengers.read_slack),
    _Vendor("Discord", (b'"guild"', b'"messages"', b'"author"'), messengers.is_discord, messengers.read_discord),
    _Vendor("Telegram", (b'"from_id"', b'"messages"'), messengers.is_telegram, messengers.read_telegram),
)


def read_export(name: str, data: bytes, people: Mapping[str, str] = NOBODY) -> Parsed | None:
    """An export as a transcript with its messages; None when it is none.

    `people` are names by identifier, for exports that tell them in a file beside: see `people_of`.
    """
    reading = Reading(name, people)
    head = data[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith((b"[", b"{")):
        return _read_json(data, reading)
    if head.startswith(b"<"):
        return _read_page(data, reading)
    return _read_table(data, reading) if tables.is_table(data) else None


def people_of(name: str, data: bytes) -> Mapping[str, str] | None:
    """Names by identifier of Slack's `users.json` or `channels.json`; None when it is neither."""
    if b'"id"' not in data or b'"name"' not in data:
        return None
    try:
        return messengers.slack_people(_objects(data)) or None
    except _Malformed:
        return None


def _read_json(data: bytes, reading: Reading) -> Parsed | None:
    likely = [vendor for vendor in _VENDORS if all(key in data for key in vendor.keys)]
    if not likely:
        return None
    try:
        values = _objects(data)
        first = list(islice(values, LOOKED_AT))
        vendor = next((vendor for vendor in likely if any(map(vendor.recognises, first))), None)
        if vendor is None:
            return None
        return _parsed(vendor.name, "application/json", vendor.read(chain(first, values), reading), reading)
    except _Malformed:
        return None


def _read_page(data: bytes, reading: Reading) -> Parsed | None:
    if b"outer-cell" not in data or b"content-cell" not in data or b"Gemini" not in data:
        return None
    page = decode(data)
    return None if page is None else _parsed("Gemini", "text/html", assistants.read_gemini_page(page, reading), reading)


def _read_table(data: bytes, reading: Reading) -> Parsed | None:
    text = decode(data)
    try:
        return None if text is None else _parsed("Chat", "text/csv", tables.read_table(text, reading), reading)
    except csv.Error:
        return None


def _parsed(source: str, media_type: str, said: Iterable[Said], reading: Reading) -> Parsed | None:
    transcript = render(source, said)
    messages = transcript.messages
    if not messages:
        return None
    times = sorted(message.time for message in messages if message.time.endswith("Z"))
    details = {"export": source, "messages": str(transcript.count)}
    if times:
        details |= {"from": times[0], "until": times[-1]}
    if left_out := sorted(reading.left_out.items()):
        details["left out"] = ", ".join(f"{count} {what}" for what, count in left_out)
    return Parsed(
        media_type,
        transcript.text,
        transcript.headings,
        title=f"{source} export",
        parts=tuple(reading.parts),
        messages=messages,
        details=details,
    )


def _objects(data: bytes) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, or the one that is there instead."""
    return (value for value in _values(data) if isinstance(value, dict))


def _values(data: bytes) -> Iterator[object]:
    """The values of a list one by one, or the one value that is no list."""
    decoder = json.JSONDecoder()
    utf_8 = codecs.getincrementaldecoder("utf-8-sig")()
    buffer, read, at, size = "", 0, 0, CHUNK_BYTES

    def more() -> bool:
        nonlocal buffer, read, at
        if read >= len(data):
            return False
        try:
            text = utf_8.decode(data[read : read + size], final=read + size >= len(data))
        except UnicodeDecodeError:
            raise _Malformed from None
        buffer, at, read = buffer[at:] + text, 0, read + size
        return True

    def seek(skipped: str) -> str:
        """The next character that is not skipped, which `at` then points at; none at the end."""
        nonlocal at
        while True:
            while at < len(buffer) and buffer[at] in skipped:
                at += 1
            if at < len(buffer):
                return buffer[at]
            if not more():
                return ""

    listed = seek(" \t\r\n") == "["
    at += listed
    while True:
        first = seek(" \t\r\n,")
        if not listed and not first:
            return
        if listed and first == "]":
            return
        size = CHUNK_BYTES
        while True:
            try:
                value, at = decoder.raw_decode(buffer, at)
                break
            except json.JSONDecodeError:
                # The value goes on behind what was read; ever more each time keeps the work linear.
                size *= 4
                if not more():
                    raise _Malformed from None
            except (ValueError, RecursionError):
                raise _Malformed from None
        yield value
