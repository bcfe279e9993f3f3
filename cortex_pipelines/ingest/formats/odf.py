"""OpenDocument: texts, presentations by slide, and spreadsheets by sheet."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from cortex_pipelines.ingest.formats.draft import Draft
from cortex_pipelines.ingest.formats.package import Package
from cortex_pipelines.ingest.parsing import Parsed, Unreadable

_SPACE = "{urn:oasis:names:tc:opendocument:xmlns:%s:1.0}"
OFFICE, TEXT, TABLE, DRAW = (_SPACE % name for name in ("office", "text", "table", "drawing"))
PRESENTATION, META, STYLE = (_SPACE % name for name in ("presentation", "meta", "style"))
DC = "{http://purl.org/dc/elements/1.1/}"
LINK = "{http://www.w3.org/1999/xlink}href"
# Empty cells are repeated by the million up to a sheet's edge.
REPEATED = 1_000
_UNSEEN = (TEXT + "tracked-changes", OFFICE + "annotation", TEXT + "sequence-decls", PRESENTATION + "notes")
_KINDS = ("text", "presentation", "spreadsheet", "drawing")


def parse_odf(package: Package) -> Parsed:
    """An ODT, ODP or ODS."""
    if b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise Unreadable("is encrypted")
    root = package.xml("content.xml")
    body = root.find(OFFICE + "body") if root is not None else None
    content = body[0] if body is not None and len(body) else None
    kind = content.tag.removeprefix(OFFICE) if content is not None else ""
    if root is None or content is None or kind not in _KINDS:
        raise Unreadable("is a broken OpenDocument file")
    reader = _Reader(root, sheets=kind == "spreadsheet")
    reader.blocks(content)
    meta = package.xml("meta.xml")
    told = {name: meta.findtext(f".//{key}") if meta is not None else "" for name, key in _DETAILS.items()}
    media_type = f"application/vnd.oasis.opendocument.{'graphics' if kind == 'drawing' else kind}"
    return reader.draft.parsed(media_type, told.pop("title") or "", details=told)


_DETAILS = {
    "title": DC + "title",
    "author": DC + "creator",
    "subject": DC + "subject",
    "created": META + "creation-date",
}


class _Reader:
    def __init__(self, root: Element, *, sheets: bool) -> None:
        self.draft = Draft()
        self._sheets = sheets
        self._numbered = _numbered_styles(root)
        self._slide = 0
        self._sheet = 0

    def blocks(self, element: Element) -> None:
        """What stands in an element, in order."""
        for child in element:
            tag = child.tag
            if tag == TEXT + "h":
                level = child.get(TEXT + "outline-level", "1")
                self.draft.heading(int(level) if level.isdecimal() else 1, _text(child))
            elif tag == TEXT + "p":
                self._paragraph(child)
            elif tag == TEXT + "list":
                self._list(child, 0)
                self.draft.apart()
            elif tag == TABLE + "table":
                self._table(child)
            elif tag == DRAW + "page":
                self._slide += 1
                self.draft.page(self._slide)
                self.blocks(child)
            elif tag == DRAW + "frame" and child.get(PRESENTATION + "class") == "title":
                self.draft.heading(2, " ".join(_text(line) for line in child.iter(TEXT + "p")))
            elif tag not in _UNSEEN:
                self.blocks(child)

    def _paragraph(self, element: Element, mark: str = "", *, loose: bool = True) -> None:
        text = _text(element).strip()
        if text:
            self.draft.block(mark + text.replace("\n", "\n" + " " * len(mark)), loose=loose)
        # Boxes are anchored in paragraphs.
        for box in element.iter(DRAW + "text-box"):
            self.blocks(box)

    def _list(self, element: Element, depth: int, style: str = "") -> None:
        style = element.get(TEXT + "style-name", style)
        number = 0
        for item in element:
            number += item.tag == TEXT + "list-item"
            mark = "  " * depth + (f"{number}. " if (style, depth) in self._numbered else "- ")
            for child in item:
                if child.tag == TEXT + "list":
                    self._list(child, depth + 1, style)
                elif child.tag == TEXT + "h":
                    self.blocks(item)
                    break
                elif child.tag == TEXT + "p":
                    self._paragraph(child, mark, loose=False)
                    mark = " " * len(mark)

    def _table(self, table: Element) -> None:
        if self._sheets:
            self._sheet += 1
            self.draft.apart()
            self.draft.page(self._sheet)
            self.draft.heading(2, table.get(TABLE + "name", ""))
        self.draft.table(_trimmed(_rows(table)))


def _rows(table: Element) -> Iterator[list[str]]:
    for row in table.iter(TABLE + "table-row"):
        cells: list[str] = []
        for cell in row:
            if cell.tag in (TABLE + "table-cell", TABLE + "covered-table-cell"):
                words = " ".join(_text(line) for line in cell.iter(TEXT + "p"))
                cells.extend([words] * _repeated(cell, "columns"))
        if any(cells):
            yield from [cells] * _repeated(row, "rows")


def _trimmed(rows: Iterator[list[str]]) -> list[list[str]]:
    """Rows without the empty cells behind the last one that is filled."""
    kept = list(rows)
    width = max((len(row) - next((n for n, cell in enumerate(reversed(row)) if cell), 0) for row in kept), default=0)
    return [row[:width] for row in kept]


def _repeated(element: Element, what: str) -> int:
    times = element.get(f"{TABLE}number-{what}-repeated", "1")
    return min(int(times), REPEATED) if times.isdecimal() else 1


def _numbered_styles(root: Element) -> set[tuple[str, int]]:
    return {
        (style.get(STYLE + "name", ""), int(level.get(TEXT + "level", "1")) - 1)
        for style in root.iter(TEXT + "list-style")
        for level in style.iter(TEXT + "list-level-style-number")
        if level.get(TEXT + "level", "1").isdecimal() and level.get(STYLE + "num-format")
    }


def _text(element: Element) -> str:
    words: list[str] = []
    _collect(element, words)
    return "".join(words)


def _collect(element: Element, words: list[str]) -> None:
    words.append(element.text or "")
    for child in element:
        tag = child.tag
        if tag == TEXT + "s":
            count = child.get(TEXT + "c", "1")
            words.append(" " * (min(int(count), REPEATED) if count.isdecimal() else 1))
        elif tag == TEXT + "tab":
            words.append("\t")
        elif tag == TEXT + "line-break":
            words.append("\n")
        elif tag == TEXT + "a":
            text, target = _text(child), child.get(LINK, "")
            words.append(f"[{text}]({target})" if text.strip() and target not in ("", text) else text)
        elif tag == TEXT + "note":
            note = " ".join(_text(line) for line in child.iter(TEXT + "p"))
            words.append(f" ({note.strip()})")
        elif tag not in _UNSEEN and tag != DRAW + "text-box":
            _collect(child, words)
        words.append(child.tail or "")
