"""Markdown in which text of documents, names and models is only ever text."""

import re
from collections.abc import Iterable, Sequence

# What begins or ends markup somewhere in a line, for Markdown and for HTML in it.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&:/@=^$])")
_NEWLINES = re.compile(r"[\r\n]+")


def escape(text: str) -> str:
    """Text as one line of Markdown that renders as itself: no markup, no link, nothing invisible."""
    return _SPECIAL.sub(r"\\\1", visible(_NEWLINES.sub(" ", text)).strip())


def visible(text: str) -> str:
    """Control characters and marks that reorder or hide text, shown by their code."""
    return "".join(char if char.isprintable() or char == "\t" else f"<U+{ord(char):04X}>" for char in text)


def code(text: str) -> str:
    """Text in a code span, whatever backticks it holds."""
    line = visible(_NEWLINES.sub(" ", text))
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}"


def quote_block(text: str, most_lines: int = 12) -> str:
    """Lines of a source in a fenced block."""
    lines = [visible(line) for line in text.split("\n")]
    shown = lines[:most_lines] + (["…"] if len(lines) > most_lines else [])
    fence = "`" * max(3, max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return "\n".join([f"{fence}text", *shown, fence])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; nothing where there are no rows."""
    # A pipe ends a cell, even where it is escaped already or in code; a table takes one backslash back.
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    if not body:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body])


def paragraphs(*parts: str) -> str:
    """Parts that are not empty, each a paragraph of its own."""
    return "\n\n".join(part for part in parts if part) + "\n"


def excerpt(markdown: str, limit: int) -> str:
    """The beginning of a report, cut at a heading, with a word on what was cut."""
    if len(markdown) <= limit:
        return markdown
    cut = markdown.rfind("\n#", 0, limit)
    kept = markdown[: cut if cut > 0 else markdown.rfind("\n", 0, limit)].rstrip()
    return f"{kept}\n\n*{len(markdown) - len(kept):,} more characters are in the report file.*\n"
