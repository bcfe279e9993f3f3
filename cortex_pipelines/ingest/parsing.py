"""From the bytes of a file to text with its structure."""

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from cortex_pipelines.errors import CortexError
from cortex_pipelines.ingest.decoding import decode

TEXT_BYTES = 64 * 2**20
HTML = ("html", "htm", "xhtml")
MARKDOWN = ("md", "markdown")
ZIP_BYTES = 200 * 2**20
ZIP_RATIO = 200


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
    """A page and the 1-based line of the document's text it starts at."""

    number: int
    line: int


@dataclass(frozen=True)
class Parsed:
    """Text with its structure."""

    media_type: str
    text: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[Page, ...] = ()
    title: str = ""


def parse(name: str, data: bytes) -> Parsed:
    """The text of a file; `Unreadable` says why there is none."""
    if not data:
        raise Unreadable("is empty")
    for magic, parser in _BY_MAGIC:
        if data.startswith(magic):
            return parser(name, data)
    text = decode(data)
    if text is None:
        raise Unreadable("is binary, or text in an unknown encoding")
    if len(text) > TEXT_BYTES:
        raise Unreadable(f"has more than {TEXT_BYTES // 2**20} MiB of text")
    suffix = _suffix(name)
    if suffix in HTML or text[:200].lstrip().lower().startswith(("<!doctype html", "<html")):
        return parse_html(text)
    if suffix in MARKDOWN:
        return Parsed("text/markdown", text, markdown_headings(text))
    if suffix in ("rst", "rest"):
        return Parsed("text/x-rst", text, rst_headings(text))
    return Parsed("text/plain", text)


def is_plain(name: str, data: bytes) -> bool:
    """Whether a file is text that is taken as it is, so that no parser sees it."""
    if any(data.startswith(magic) for magic, _ in _BY_MAGIC):
        return False
    html = data[:200].lstrip().lower().startswith((b"<!doctype html", b"<html"))
    return not html and _suffix(name) not in (*HTML, *MARKDOWN)


def markdown_headings(text: str) -> tuple[Heading, ...]:
    """Headings of Markdown, those of code blocks left out."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").parse(text)
    return tuple(
        Heading(int(token.tag[1]), tokens[number + 1].content, token.map[0] + 1)
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and token.map
    )


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


def parse_html(text: str) -> Parsed:
    """Visible text of HTML, with its headings."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(text)
    for node in tree.css("script, style, template, noscript"):
        node.decompose()
    title = tree.css_first("title")
    lines: list[str] = []
    headings: list[Heading] = []
    body = tree.body
    if body is not None:
        for node in body.css("h1,h2,h3,h4,h5,h6,p,li,tr,pre,dt,dd,blockquote"):
            if node.tag == "tr":
                words = " | ".join(" ".join(cell.text().split()) for cell in node.css("td,th"))
            elif node.tag == "li" and node.css_first("p"):
                continue
            elif node.tag == "pre":
                words = node.text()
            else:
                words = " ".join(node.text().split())
            if not words.strip():
                continue
            if node.tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
                headings.append(Heading(int(node.tag[1]), words, len(lines) + 1))
            lines.extend([*(("- " if node.tag == "li" else "") + words).split("\n"), ""])
    joined = "\n".join(lines)
    if not joined.strip():
        raise Unreadable("has no text")
    return Parsed("text/html", joined, tuple(headings), (), title.text().strip() if title else "")


def parse_pdf(name: str, data: bytes) -> Parsed:
    """Text of a PDF, page by page."""
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        raise Unreadable("is encrypted" if "password" in str(error).lower() else "is a broken PDF") from None
    lines: list[str] = []
    pages = []
    for number in range(len(document)):
        pages.append(Page(number + 1, len(lines) + 1))
        text = document[number].get_textpage().get_text_range().replace("\r\n", "\n").replace("\x00", "")
        lines.extend(text.split("\n"))
    joined = "\n".join(lines)
    if not joined.strip():
        raise Unreadable("has no text, only images")
    title = document.get_metadata_dict().get("Title", "")
    return Parsed("application/pdf", joined, (), tuple(pages), title)


def parse_zip(name: str, data: bytes) -> Parsed:
    """A DOCX; any other archive is not read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            size = sum(info.file_size for info in infos)
            names = {info.filename for info in infos}
    except zipfile.BadZipFile:
        raise Unreadable("is a broken archive") from None
    if "word/document.xml" not in names:
        raise Unreadable("is an archive: archives are not read yet, unpack it")
    if size > ZIP_BYTES or size > ZIP_RATIO * len(data):
        raise Unreadable("unpacks to far more than a document holds")
    return parse_docx(data)


def parse_docx(data: bytes) -> Parsed:
    """Paragraphs, headings and tables of a DOCX in order."""
    import docx
    from docx.table import Table

    try:
        document = docx.Document(io.BytesIO(data))
    except Exception as error:
        raise Unreadable(f"is a broken DOCX: {error}") from None
    lines: list[str] = []
    headings = []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            for row in block.rows:
                lines.append("| " + " | ".join(cell.text.replace("\n", " ") for cell in row.cells) + " |")
            lines.append("")
            continue
        if not block.text.strip():
            continue
        style = block.style.name if block.style is not None else ""
        if level := re.fullmatch(r"Heading (\d)", style or ""):
            headings.append(Heading(int(level.group(1)), block.text, len(lines) + 1))
        elif style == "Title":
            headings.append(Heading(1, block.text, len(lines) + 1))
        lines.extend([*(("- " if "List" in (style or "") else "") + block.text).split("\n"), ""])
    joined = "\n".join(lines)
    if not joined.strip():
        raise Unreadable("has no text")
    return Parsed("application/vnd.openxmlformats-officedocument.wordprocessingml.document", joined, tuple(headings))


def _archive(name: str, data: bytes) -> Parsed:
    raise Unreadable("is an archive: archives are not read yet, unpack it")


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


_BY_MAGIC: tuple[tuple[bytes, Callable[[str, bytes], Parsed]], ...] = (
    (b"%PDF-", parse_pdf),
    (b"PK\x03\x04", parse_zip),
    (b"\x1f\x8b", _archive),
    (b"7z\xbc\xaf", _archive),
    (b"BZh", _archive),
    (b"\xfd7zXZ", _archive),
    (b"\x28\xb5\x2f\xfd", _archive),
)
