"""Texts with marks, taken as they are: Markdown, reStructuredText, AsciiDoc and LaTeX, with their headings."""

import re
from collections.abc import Iterator
from itertools import islice

from cortex_pipelines.ingest.chats import parse_chat
from cortex_pipelines.ingest.formats.draft import short, shortened
from cortex_pipelines.ingest.parsing import Heading, Parsed

FRONT_MATTER_CHARACTERS = 20_000
# No line with a title is longer; patterns go back and forth in it.
LINE_CHARACTERS = 2_000
# A tree takes up to a hundred times its text: what is longer is read in pieces.
TREE_CHARACTERS = 2**20


def parse_markdown(media_type: str, text: str) -> Parsed:
    """Markdown, with what its front matter tells."""
    details = _front_matter(text)
    title = details.pop("title", "")
    return Parsed(media_type, text, markdown_headings(text), (), title, (), parse_chat(text), details)


def parse_rst(media_type: str, text: str) -> Parsed:
    """reStructuredText."""
    return Parsed(media_type, text, rst_headings(text))


def parse_asciidoc(media_type: str, text: str) -> Parsed:
    """AsciiDoc."""
    return Parsed(media_type, text, tuple(_asciidoc_headings(text)))


def parse_latex(media_type: str, text: str) -> Parsed:
    """LaTeX."""
    title = re.search(r"\\title\s*(?:\[[^\]\n]*\])?\{([^{}]*)\}", text)
    author = re.search(r"\\author\s*(?:\[[^\]\n]*\])?\{([^{}]*)\}", text)
    return Parsed(
        media_type,
        text,
        tuple(_latex_headings(text)),
        (),
        short(title[1]) if title else "",
        details=shortened({"author": author[1] if author else ""}),
    )


_RENDERED = re.compile(r'<h([1-6]) data-sourcepos="(\d+):(\d+)-')
_ATX = re.compile(r"#{1,6}(?=[ \t]|$)")
_DEFINITION = re.compile(r"[ \t]*\[[^\]]+\]:[ \t]*\S+[ \t]*$")
_UNDERLINE = re.compile(r"[ \t>]*(?:=+|-+)[ \t]*$")


def markdown_headings(text: str) -> tuple[Heading, ...]:
    """Headings of Markdown, those of code blocks left out."""
    if fenced := _FRONT_MATTER.match(text[:FRONT_MATTER_CHARACTERS]):
        # It would be read as a heading above a line.
        text = "\n" * fenced[0].count("\n") + text[fenced.end() :]
    # To the library a lone CR ends a line, and a NUL ends all.
    plain = text.replace("\r", " ").replace("\0", " ").encode("utf-8", "replace").decode()
    found: list[Heading] = []
    start = above = 0
    while True:
        piece = plain[start : start + TREE_CHARACTERS]
        lines = piece.split("\n")
        places = _places(piece)
        end = len(lines)
        if more := start + len(piece) < len(plain):
            # Where a heading begins that is in nothing else, the next piece may begin too: nothing is open there.
            end = next((line for _, line, column in reversed(places) if column == 1 and line > 1), len(lines)) - 1
        found.extend(
            _heading(level, lines, line - 1, column - 1, above)
            for level, line, column in places
            if line <= end or not more
        )
        if not more:
            return tuple(found)
        # A line without an end is cut.
        start += sum(len(line) + 1 for line in lines[:end]) or len(piece)
        above += end


def _places(text: str) -> list[tuple[int, int, int]]:
    """The level of each heading, the line it begins on, and the column, which counts bytes."""
    import cmarkgfm
    from cmarkgfm.cmark import Options

    html = cmarkgfm.markdown_to_html(text, Options.CMARK_OPT_SOURCEPOS)
    return [(int(level), int(line), int(column)) for level, line, column in _RENDERED.findall(html)]


def _heading(level: int, lines: list[str], number: int, column: int, above: int) -> Heading:
    first = lines[number].encode()[column:].decode("utf-8", "replace").lstrip(" \t")
    if atx := _ATX.match(first):
        return Heading(level, _unclosed(first[atx.end() :].strip(" \t")), above + number + 1)
    words = [first]
    for line in islice(lines, number + 1, None):
        if _UNDERLINE.match(line):
            break
        words.append(line.lstrip(" \t>"))
    # Definitions of links may stand before it, and belong to no heading.
    before = next((place for place, line in enumerate(words) if not _DEFINITION.match(line)), 0)
    return Heading(level, "\n".join(word.strip() for word in words[before:]), above + number + before + 1)


def _unclosed(title: str) -> str:
    """A title without the `#` that may close it."""
    bare = title.rstrip("#")
    return bare.rstrip(" \t") if not bare or bare[-1] in " \t" else title


_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:[^\n]*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|$)")


def _front_matter(text: str) -> dict[str, str]:
    fenced = _FRONT_MATTER.match(text[:FRONT_MATTER_CHARACTERS])
    if not fenced:
        return {}
    fields = re.findall(r"(?m)^(title|author|date|description)[ \t]*:[ \t]*([^\n]+)$", fenced[0])
    return shortened({name: value.strip().strip("'\"") for name, value in fields})


_ADORNMENT = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}\s*$")


def rst_headings(text: str) -> tuple[Heading, ...]:
    """Section titles of reStructuredText: a line with an adornment of its length below, maybe one above."""
    lines = text.split("\n")
    levels: list[str] = []
    found = []
    for number in range(len(lines) - 1):
        title, below = lines[number].rstrip(), lines[number + 1].rstrip()
        if not title or title[0].isspace() or not _ADORNMENT.match(below) or len(below) < len(title):
            continue
        if _ADORNMENT.match(title):
            continue
        above = lines[number - 1].rstrip() if number else ""
        style = below[0] + ("o" if above == below else "")
        if style not in levels:
            levels.append(style)
        found.append(Heading(levels.index(style) + 1, title, number + 1))
    return tuple(found)


_ASCIIDOC_TITLE = re.compile(r"(={1,6}|#{1,6})[ \t]+(\S.*?)(?:[ \t]+\1)?[ \t]*$")
# Listings, literals, examples, sidebars, quotes, passthroughs, comments and open blocks end as they begin.
_ASCIIDOC_BLOCK = re.compile(r"(?:(-{4,}|\.{4,}|\+{4,}|/{4,})|(```).*)[ \t]*$")


def _asciidoc_headings(text: str) -> Iterator[Heading]:
    inside = ""
    for number, line in enumerate(text.split("\n"), 1):
        if inside:
            if line.rstrip() == inside:
                inside = ""
        elif block := _ASCIIDOC_BLOCK.match(line):
            inside = block[1] or block[2]
        elif len(line) <= LINE_CHARACTERS and (title := _ASCIIDOC_TITLE.match(line)):
            yield Heading(len(title[1]), title[2], number)


_LATEX_LEVELS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5}
_LATEX_HEADING = re.compile(
    r"\\(part|chapter|section|subsection|subsubsection|paragraph)\*?[ \t]*(?:\[[^\]]*\])?[ \t]*"
    r"\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_LATEX_LITERAL = re.compile(r"\\(begin|end)\{(verbatim\*?|lstlisting|minted|comment|Verbatim)\}")


def _latex_headings(text: str) -> Iterator[Heading]:
    literal = False
    for number, line in enumerate(text.split("\n"), 1):
        if "\\" not in line:
            continue
        line = line[:LINE_CHARACTERS]
        for begins, _ in _LATEX_LITERAL.findall(line):
            literal = begins == "begin"
        told = re.split(r"(?<!\\)%", line, maxsplit=1)[0]
        if not literal:
            for command, words in _LATEX_HEADING.findall(told):
                if words.strip():
                    yield Heading(_LATEX_LEVELS[command], words.strip(), number)
