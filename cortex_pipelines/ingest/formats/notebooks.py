"""Notebooks: their cells in order, code and its output as fenced blocks."""

import json
import re
from collections.abc import Iterator
from typing import Any

from cortex_pipelines.ingest.formats.draft import short, shortened
from cortex_pipelines.ingest.formats.markup import markdown_headings
from cortex_pipelines.ingest.parsing import Parsed, Unreadable

# Of one output: a table's head or an error, not the data that was printed.
OUTPUT_CHARACTERS = 4_000


def parse_notebook(media_type: str, text: str) -> Parsed:
    """A notebook of Jupyter. Nothing of it is run."""
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("is a broken notebook") from None
    if not isinstance(notebook, dict):
        raise Unreadable("is a broken notebook")
    metadata = _mapping(notebook.get("metadata"))
    language = short(str(_mapping(metadata.get("language_info")).get("name", "python")))
    # Cells of version 3 lie in worksheets.
    sheets = [_mapping(sheet).get("cells") for sheet in _list(notebook.get("worksheets"))]
    cells = [cell for listed in (notebook.get("cells"), *sheets) for cell in _list(listed)]
    markdown = "\n\n".join(block for cell in cells for block in _blocks(_mapping(cell), language))
    authors = ", ".join(str(_mapping(author).get("name", "")) for author in _list(metadata.get("authors")))
    return Parsed(
        media_type,
        markdown,
        markdown_headings(markdown),
        title=short(str(metadata.get("title") or "")),
        details=shortened({"author": authors, "language": language}),
    )


def _blocks(cell: dict[str, Any], language: str) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input")))
    kind = cell.get("cell_type")
    if kind == "heading":
        level = cell.get("level")
        yield "#" * (level if isinstance(level, int) and 0 < level < 7 else 1) + " " + " ".join(source.split())
    elif kind != "code":
        yield source
    else:
        if source.strip():
            yield _fenced(source, language)
        for output in _list(cell.get("outputs")):
            shown = _output(_mapping(output))
            if shown.strip():
                cut = shown[:OUTPUT_CHARACTERS].rstrip("\n") + ("\n[...]" if len(shown) > OUTPUT_CHARACTERS else "")
                yield _fenced(cut, "text")


def _output(output: dict[str, Any]) -> str:
    if output.get("output_type") in ("error", "pyerr"):
        return f"{output.get('ename', '')}: {output.get('evalue', '')}"
    return _joined(output.get("text") or _mapping(output.get("data")).get("text/plain"))


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`{3,}", text)), 3)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


def _joined(source: object) -> str:
    parts = source if isinstance(source, list) else [source]
    return "".join(part for part in parts if isinstance(part, str)).replace("\r\n", "\n")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
