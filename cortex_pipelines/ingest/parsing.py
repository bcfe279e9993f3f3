"""From the bytes of a file to text with its structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from cortex_pipelines.errors import CortexError

if TYPE_CHECKING:
    from cortex_pipelines.ingest.chats import Message

TEXT_BYTES = 64 * 2**20


class Unreadable(CortexError):
    """Why a file is no document."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: its level from 1, its text, its 1-based line of the document's text."""

    level: int
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page, slide or sheet, and the 1-based line of the document's text it starts at."""

    number: int
    line: int


@dataclass(frozen=True, slots=True)
class Part:
    """Something inside a file that is a document of its own, such as an attachment; its name is untrusted."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Parsed:
    """Text with its structure. `details` is what the file tells of itself: its author, date, sender and so on."""

    media_type: str
    text: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[Page, ...] = ()
    title: str = ""
    parts: tuple[Part, ...] = ()
    messages: tuple[Message, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)


def parse(name: str, data: bytes, people: Mapping[str, str] = MappingProxyType({})) -> Parsed:
    """The text of a file; `Unreadable` says why there is none. Hostile files are for `reader.DocumentReader`.

    `people` are the names by which an export calls its speakers, where they lie in another file of it.
    """
    from cortex_pipelines.ingest.chats import read_export
    from cortex_pipelines.ingest.decoding import decode
    from cortex_pipelines.ingest.formats.plain import parse_plain
    from cortex_pipelines.ingest.formats.registry import BINARY, TEXT
    from cortex_pipelines.ingest.formats.sniffing import binary_type, text_type

    if not data:
        raise Unreadable("is empty")
    if kind := binary_type(data):
        found = BINARY[kind](kind, data)
    # Before it is text as a whole, which may take four bytes a character.
    elif exported := read_export(name, data, people):
        found = exported
    else:
        text = decode(data)
        if text is None:
            raise Unreadable("is binary, or text in an unknown encoding")
        text = _lines(text)
        kind = text_type(name, text)
        found = TEXT.get(kind, parse_plain)(kind, text)
    if len(found.text) > TEXT_BYTES:
        raise Unreadable(f"has more than {TEXT_BYTES // 2**20} MiB of text")
    # Not strip, which copies a text of up to 256 MiB.
    if (not found.text or found.text.isspace()) and not found.parts:
        raise Unreadable("has no text")
    return found


def _lines(text: str) -> str:
    if "\r" not in text:
        return text
    text = text.replace("\r\n", "\n")
    # Where lines end in LF, a lone CR is a character of a line, such as a progress bar's.
    return text if "\n" in text else text.replace("\r", "\n")
