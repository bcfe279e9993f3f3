"""Text cut where its structure allows, each chunk with its exact place."""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from cortex_pipelines.ingest.parsing import Heading, Page

if TYPE_CHECKING:
    from tree_sitter import Parser

# About 250 to 400 tokens: what the embedders read whole. Characters, since counting tokens is 300 times slower.
TARGET = 1_000
MOST = 1_500
CODE_MOST_BYTES = 2**20

# Every byte of UTF-8 that does not begin a character.
_CONTINUING = bytes(range(0x80, 0xC0))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text: bytes `[byte_start, byte_end)` of its UTF-8, lines 1-based and inclusive."""

    text: str
    byte_start: int
    byte_end: int
    line_start: int
    line_end: int
    page: int | None = None
    section: str = ""


def chunk_document(text: str, headings: Sequence[Heading] = (), pages: Sequence[Page] = ()) -> list[Chunk]:
    """Prose by pages, sections, paragraphs and lines; nothing but blank text is lost."""
    lines = _Lines(text)
    starts = [lines.offset(line) for line in (*(found.line for found in headings), *(page.line for page in pages))]
    spans: list[tuple[int, int]] = []
    for begin, end in _pairs([0, *starts, len(text)]):
        spans.extend(_greedy(text, begin, end))
    page_lines = [page.line for page in pages]
    paths = _paths(headings)
    chunks = []
    for chunk in lines.chunks(spans):
        at = bisect.bisect_right(page_lines, chunk.line_start) - 1
        section = bisect.bisect_right([heading.line for heading in headings], chunk.line_start) - 1
        chunks.append(
            Chunk(
                chunk.text,
                chunk.byte_start,
                chunk.byte_end,
                chunk.line_start,
                chunk.line_end,
                pages[at].number if at >= 0 else None,
                paths[section] if section >= 0 else "",
            )
        )
    return chunks


def chunk_code(text: str, language: str | None) -> list[Chunk]:
    """Code by the borders of its syntax tree: large nodes are split, small neighbours are merged.

    A hostile file may crash its parser: outside of tests this runs in a `chunker.CodeChunker`.
    """
    data = text.encode()
    if language is None or len(data) > CODE_MOST_BYTES:
        return chunk_document(text)
    root = _parser(language).parse(data).root_node
    spans = list(_merge(_split(root)))
    if not spans:
        return chunk_document(text)
    # What lies between two nodes (blank lines, comments the grammar leaves out) goes with the one before.
    cuts = _pairs([0, *[begin for begin, _ in spans[1:]], len(data)])
    sizes = (len(data[begin:end].translate(None, _CONTINUING)) for begin, end in cuts)
    places = accumulate(sizes, initial=0)
    return _Lines(text).chunks([piece for begin, end in pairwise(places) for piece in _greedy(text, begin, end)])


def _split(root: Any) -> Iterator[tuple[int, int]]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        children = node.children if node.end_byte - node.start_byte > MOST else ()
        if children:
            waiting.extend(reversed(children))
        else:
            yield node.start_byte, node.end_byte


def _merge(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    open_at: int | None = None
    last = 0
    for begin, end in spans:
        if open_at is not None and end - open_at > MOST:
            yield open_at, last
            open_at = None
        if open_at is None:
            open_at = begin
        last = end
    if open_at is not None:
        yield open_at, last


def _greedy(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Spans of at most `MOST` characters, cut at the best separator there is."""
    while end - begin > MOST:
        cut = -1
        for separator in ("\n\n", "\n", ". ", " "):
            cut = text.rfind(separator, begin + TARGET // 4, begin + TARGET)
            if cut != -1:
                cut += len(separator)
                break
        if cut == -1:
            cut = begin + TARGET
        yield begin, cut
        begin = cut
    yield begin, end


def _pairs(cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    return pairwise(sorted(set(cuts)))


def _paths(headings: Sequence[Heading]) -> list[str]:
    open_headings: list[Heading] = []
    paths = []
    for heading in headings:
        while open_headings and open_headings[-1].level >= heading.level:
            open_headings.pop()
        open_headings.append(heading)
        paths.append(" > ".join(item.text for item in open_headings))
    return paths


class _Lines:
    """Places in a text: characters, bytes and lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.ascii = text.isascii()
        self.breaks = [0]
        at = text.find("\n")
        while at != -1:
            self.breaks.append(at + 1)
            at = text.find("\n", at + 1)

    def offset(self, line: int) -> int:
        return self.breaks[min(line, len(self.breaks)) - 1]

    def line(self, character: int) -> int:
        return bisect.bisect_right(self.breaks, character)

    def chunks(self, spans: Sequence[tuple[int, int]]) -> list[Chunk]:
        """A chunk for each span that holds more than blanks, without the blanks around it."""
        found = []
        byte, at = 0, 0
        for begin, end in spans:
            piece = self.text[begin:end]
            body = piece.strip()
            if not body:
                continue
            begin += len(piece) - len(piece.lstrip())
            end = begin + len(body)
            byte += (begin - at) if self.ascii else len(self.text[at:begin].encode())
            size = len(body) if self.ascii else len(body.encode())
            found.append(Chunk(body, byte, byte + size, self.line(begin), self.line(end - 1)))
            byte, at = byte + size, end
        return found


@cache
def _parser(language: str) -> "Parser":
    from tree_sitter_language_pack import get_parser

    return get_parser(language)  # type: ignore[arg-type]
