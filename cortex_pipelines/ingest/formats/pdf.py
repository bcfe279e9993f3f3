"""PDF: text page by page, headings of its outline; pages that are images are read by OCR where it is installed."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from cortex_pipelines.ingest.formats import images
from cortex_pipelines.ingest.formats.draft import Draft
from cortex_pipelines.ingest.parsing import Heading, Parsed, Unreadable

if TYPE_CHECKING:
    import pypdfium2

PAGES = 20_000
ENTRIES = 10_000
# Of the time a document has, what recognising its pages may take.
OCR_SECONDS = 200.0
OCR_DOTS_PER_INCH = 200
OCR_DOTS = 12_000_000


def parse_pdf(media_type: str, data: bytes) -> Parsed:
    """A document."""
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        raise Unreadable("is encrypted" if "password" in str(error).lower() else "is a broken PDF") from None
    count = len(document)
    if count > PAGES:
        raise Unreadable(f"has more than {PAGES:,} pages")
    draft = Draft()
    scanner = _Scanner()
    for number in range(count):
        draft.page(number + 1)
        try:
            page = document[number]
            text = page.get_textpage().get_text_range()
            if not text.strip():
                text = scanner.read(page)
            page.close()
        except pdfium.PdfiumError:
            text = ""  # a broken page among good ones
        # U+FFFE is the hyphen of a word that was broken at a line's end, which is whole here.
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").replace("\ufffe", "")
        draft.lines.extend(text.split("\n"))
    if not any(line.strip() for line in draft.lines):
        raise Unreadable(scanner.reason() if count else "has no pages")
    draft.headings.extend(_outline(document, draft))
    told = document.get_metadata_dict()
    details = {
        "author": told.get("Author"),
        "subject": told.get("Subject"),
        "created": _date(told.get("CreationDate", "")),
    }
    return draft.parsed(media_type, told.get("Title", ""), details={**details, "read by": scanner.told()})


class _Scanner:
    """Reads pages that have no text, as long as there is time."""

    def __init__(self) -> None:
        self._deadline = 0.0
        self._read = self._unread = 0

    def read(self, page: pypdfium2.PdfPage) -> str:
        """The text of a page as a picture; none where nothing is drawn."""
        if next(page.get_objects(max_depth=2), None) is None:
            return ""
        self._deadline = self._deadline or time.monotonic() + OCR_SECONDS
        left = self._deadline - time.monotonic()
        text = images.recognised(_grey(page), left) if left > 0 and images.has_tesseract() else None
        if text is None:
            self._unread += 1
        else:
            self._read += 1
        return text or ""

    def told(self) -> str:
        """How pages without text were read."""
        if self._unread:
            return f"OCR, {self._unread} pages that are images left out"
        return "OCR" if self._read else ""

    def reason(self) -> str:
        """Why a document has no text at all."""
        if self._unread and not images.has_tesseract():
            return f"has no text, only images: to read them, {images.MISSING}"
        return "has no text, only images in which OCR finds none" if self._read or self._unread else "has no text"


def _grey(page: pypdfium2.PdfPage) -> bytes:
    """A page as a PGM image."""
    width, height = page.get_size()
    dots = max(1.0, width * height)
    scale = min(OCR_DOTS_PER_INCH / 72, (OCR_DOTS / dots) ** 0.5)
    bitmap = page.render(scale=scale, grayscale=True)
    pixels = bytes(bitmap.buffer)
    rows = (pixels[row * bitmap.stride : row * bitmap.stride + bitmap.width] for row in range(bitmap.height))
    return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + b"".join(rows)


_NUMBER = re.compile(r"\s*(?:\d+|[A-Z])(?:\.\d+){0,5}\.?\s+")


def _outline(document: pypdfium2.PdfDocument, draft: Draft) -> list[Heading]:
    """Entries of the outline that are found as lines of the page they point to, in the order of the text."""
    import pypdfium2 as pdfium

    ends = [*(page.line for page in draft.pages[1:]), len(draft.lines) + 1]
    found: dict[int, Heading] = {}
    wanted: dict[int, list[tuple[int, str]]] = defaultdict(list)
    try:
        for number, entry in enumerate(document.get_toc(max_depth=6)):
            target = entry.get_dest()
            page = target.get_index() if target is not None else None
            if page is not None and 0 <= page < len(ends):
                wanted[page].append((entry.level + 1, " ".join(entry.get_title().split())))
            if number >= ENTRIES:
                break
    except (pdfium.PdfiumError, UnicodeError):
        return []
    for page, entries in wanted.items():
        start = draft.pages[page].line
        lines: dict[str, int] = {}
        for number, line in enumerate(draft.lines[start - 1 : ends[page] - 1], start):
            # The outline often leaves out the number of a section.
            for words in (line, _NUMBER.sub("", line, count=1)):
                lines.setdefault(_key(words), number)
        for level, title in entries:
            if title and (place := lines.get(_key(title))):
                found.setdefault(place, Heading(level, draft.lines[place - 1].strip(), place))
    return [found[place] for place in sorted(found)]


def _date(told: str) -> str:
    """A date as PDF writes it, in ISO 8601 without its zone."""
    found = re.match(r"D:(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", told)
    return "{}-{}-{}T{}:{}:{}".format(*found.groups()) if found else ""


def _key(line: str) -> str:
    return "".join(line.split()).casefold()
