"""Formats that kreuzberg reads as Markdown: PPTX, XLSX, XLS, XLSB and RTF."""

import os
import re
import secrets

from cortex_pipelines.ingest.formats.docx import core_details
from cortex_pipelines.ingest.formats.draft import short, shortened
from cortex_pipelines.ingest.formats.markup import markdown_headings
from cortex_pipelines.ingest.formats.package import Package
from cortex_pipelines.ingest.parsing import Heading, Page, Parsed, Unreadable

PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLSB = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
XLS = "application/vnd.ms-excel"
RTF = "application/rtf"


def parse_pptx(package: Package) -> Parsed:
    """A presentation, slide by slide."""
    return _parsed(PPTX, package.data, package, slides=True)


def parse_xlsx(package: Package) -> Parsed:
    """A workbook, sheet by sheet."""
    return _parsed(XLSX, package.data, package, sheets=True)


def parse_xlsb(package: Package) -> Parsed:
    """A binary workbook, sheet by sheet."""
    return _parsed(XLSB, package.data, package, sheets=True)


def parse_xls(data: bytes) -> Parsed:
    """A workbook of Excel before 2007, sheet by sheet."""
    return _parsed(XLS, data, sheets=True)


def parse_rtf(media_type: str, data: bytes) -> Parsed:
    """Rich text."""
    return _parsed(RTF, data)


def _parsed(
    media_type: str, data: bytes, package: Package | None = None, *, slides: bool = False, sheets: bool = False
) -> Parsed:
    # What no document can guess.
    mark = f"PAGE{secrets.token_hex(8)}N"
    markdown, told = _markdown(media_type, data, mark if slides else "")
    found = {heading.line: heading for heading in markdown_headings(markdown)}
    lines: list[str] = []
    headings: list[Heading] = []
    pages: list[Page] = []
    for number, line in enumerate(markdown.split("\n"), 1):
        if slides and line.startswith(mark):
            pages.append(Page(int(line[len(mark) :]), len(lines) + 1))
            continue
        heading = found.get(number)
        if heading is None:
            if line or (lines and lines[-1]):
                lines.append(_unescaped(line))
            continue
        if sheets:
            pages.append(Page(len(pages) + 1, len(lines) + 1))
        words = _unescaped(heading.text)
        lines.append(words)
        headings.append(Heading(heading.level, words, len(lines)))
    if pages and pages[-1].line > len(lines):
        lines.append("")  # the last one is empty
    details = core_details(package) if package is not None else told
    title = short(str(details.pop("title", "") or ""))
    return Parsed(media_type, "\n".join(lines), tuple(headings), tuple(pages), title, details=shortened(details))


def _markdown(media_type: str, data: bytes, mark: str) -> tuple[str, dict[str, object]]:
    # One thread each: its stacks count as memory, and more are of no use to one document.
    os.environ.update(TOKIO_WORKER_THREADS="1", RAYON_NUM_THREADS="1")
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="markdown",
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
        pages=kreuzberg.PageConfig(
            extract_pages=True, insert_page_markers=True, marker_format="\n\n" + mark + "{page_num}\n\n"
        )
        if mark
        else None,
        postprocessor=kreuzberg.PostProcessorConfig(enabled=False),
    )
    try:
        result = kreuzberg.extract_bytes_sync(data, media_type, config)
    except Exception as error:
        words = str(error).lower()
        if "password" in words or "encrypt" in words:
            raise Unreadable("is encrypted") from None
        if "limit" in words:
            raise Unreadable("unpacks to far more than a document holds") from None
        raise Unreadable(f"is broken: {short(str(error))[:200]}") from None
    metadata = result.metadata or {}
    return result.content, {"title": metadata.get("title"), "author": ", ".join(metadata.get("authors") or ())}


# A mark of Markdown that stood in the text itself; one in a table's cell must stay.
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{}~])|&#(\d{1,6});")
_MIDNIGHT = re.compile(r"(?<=\| )(\d{4}-\d\d-\d\d) 00:00:00(?= \|)")


def _unescaped(line: str) -> str:
    if "\\" in line or "&#" in line:
        line = _ESCAPE.sub(lambda found: found[1] or chr(int(found[2]) % 0x110000), line)
    return _MIDNIGHT.sub(r"\1", line)
