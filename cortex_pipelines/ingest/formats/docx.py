"""DOCX: paragraphs, headings, lists, tables, links and footnotes, in order."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from xml.etree.ElementTree import Element

from cortex_pipelines.ingest.formats.draft import Draft
from cortex_pipelines.ingest.formats.package import XML_BYTES, Package, xml_tree
from cortex_pipelines.ingest.parsing import Parsed, Unreadable

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# What Word writes in "Strict Open XML".
STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
CORE = "{http://schemas.openxmlformats.org/package/2006/metadata/core-properties}"
DC = "{http://purl.org/dc/elements/1.1/}"
DCTERMS = "{http://purl.org/dc/terms/}"
# Documents of one template have the same styles, which may be far longer than they are.
CACHED_BYTES = 2**20
_HEADING_NAME = re.compile(r"(?i)heading (\d)$")


def parse_docx(package: Package) -> Parsed:
    """A document of Word."""
    return _Reader(package).parsed()


def core_details(package: Package) -> dict[str, object]:
    """What an Office document tells of itself."""
    root = package.xml("docProps/core.xml")
    if root is None:
        return {}
    names = {"title": DC, "author": DC, "subject": DC, "created": DCTERMS, "keywords": CORE}
    return {name: root.findtext(space + {"author": "creator"}.get(name, name)) for name, space in names.items()}


class _Reader:
    def __init__(self, package: Package) -> None:
        self._package = package
        root = package.xml("word/document.xml")
        body = root.find(W + "body") if root is not None else None
        if body is None:
            strict = root is not None and root.tag.startswith(STRICT)
            raise Unreadable("is Strict Open XML: save it as an ordinary DOCX" if strict else "is a broken DOCX")
        self._body = body
        self._draft = Draft()
        styles = package.read("word/styles.xml", XML_BYTES)
        read_styles = _styles if len(styles) <= CACHED_BYTES else _styles.__wrapped__
        self._headings, self._style_lists = read_styles(styles)
        self._numbered = self._numberings()
        self._counts: Counter[tuple[str, int]] = Counter()
        self._targets = self._links()
        self._notes: list[str] = []

    def parsed(self) -> Parsed:
        listed = ""
        for block in _blocks(self._body):
            if block.tag == W + "tbl":
                self._draft.table([self._cell(cell) for cell in row.iter(W + "tc")] for row in block.iter(W + "tr"))
                listed = ""
            else:
                listed = self._paragraph(block, listed)
        self._footnotes()
        details = core_details(self._package)
        return self._draft.parsed(MEDIA_TYPE, str(details.pop("title", "") or ""), details=details)

    def _paragraph(self, block: Element, listed: str) -> str:
        """Write a paragraph, after an item of the list `listed`; the list it is an item of."""
        text = self._text(block).strip()
        properties = block.find(W + "pPr")
        style = _value(properties, "pStyle")
        level = self._headings.get(style)
        if (own := _value(properties, "outlineLvl")).isdecimal():
            level = int(own) + 1
        number, place = self._numbering(properties, style)
        if not text:
            return listed
        if level is not None and level <= 9:
            self._draft.heading(level, text)
        elif number:
            if listed and listed != number:
                self._draft.apart()
            mark = self._mark(number, place)
            self._draft.block(mark + text.replace("\n", "\n" + " " * len(mark)), loose=False)
            return number
        else:
            # A list goes on until a paragraph that is none of its items.
            if listed:
                self._draft.apart()
            self._draft.block(text)
        return ""

    def _numbering(self, properties: Element | None, style: str) -> tuple[str, int]:
        """The list that a paragraph is an item of, and its level; no list for any other paragraph."""
        marks = properties.find(W + "numPr") if properties is not None else None
        number, depth = _value(marks, "numId"), _value(marks, "ilvl")
        if not number:
            number, depth = self._style_lists.get(style, ("", ""))
        return ("" if number == "0" else number), (min(int(depth), 8) if depth.isdecimal() else 0)

    def _mark(self, number: str, place: int) -> str:
        indent = "  " * place
        if not self._numbered.get((number, place)):
            return indent + "- "
        self._counts[number, place] += 1
        for deeper in range(place + 1, 9):
            self._counts.pop((number, deeper), None)
        return f"{indent}{self._counts[number, place]}. "

    def _cell(self, cell: Element) -> str:
        return " ".join(self._text(paragraph) for paragraph in cell.iter(W + "p"))

    def _text(self, element: Element) -> str:
        words: list[str] = []
        self._collect(element, words)
        return "".join(words)

    def _collect(self, element: Element, words: list[str]) -> None:
        for child in element:
            tag = child.tag
            if tag == W + "t":
                words.append(child.text or "")
            elif tag == W + "r":
                self._collect(child, words)
            elif tag == W + "tab":
                words.append("\t")
            elif tag in (W + "br", W + "cr"):
                words.append("\n")
            elif tag == W + "noBreakHyphen":
                words.append("-")
            elif tag == W + "hyperlink":
                text = self._text(child)
                target = self._targets.get(child.get(RELATION, ""))
                words.append(f"[{text}]({target})" if target and text.strip() and target != text else text)
            elif tag == W + "footnoteReference":
                self._notes.append(child.get(W + "id", ""))
                words.append(f"[^{len(self._notes)}]")
            elif tag == W + "p":
                # A box of text inside a paragraph.
                words.append("\n" + self._text(child))
            elif tag not in (W + "pPr", W + "rPr", W + "del", W + "moveFrom", FALLBACK):
                self._collect(child, words)

    def _numberings(self) -> dict[tuple[str, int], bool]:
        """Whether a level of a list has numbers."""
        root = self._package.xml("word/numbering.xml")
        if root is None:
            return {}
        kinds = {
            definition.get(W + "abstractNumId", ""): [
                (level.get(W + "ilvl", ""), _value(level, "numFmt") not in ("bullet", "none"))
                for level in definition.iter(W + "lvl")
            ]
            for definition in root.iter(W + "abstractNum")
        }
        return {
            (number.get(W + "numId", ""), int(level)): numbered
            for number in root.iter(W + "num")
            for level, numbered in kinds.get(_value(number, "abstractNumId"), ())
            if level.isdecimal()
        }

    def _links(self) -> dict[str, str]:
        """Where links lead; nothing is ever fetched."""
        root = self._package.xml("word/_rels/document.xml.rels")
        if root is None:
            return {}
        return {
            relation.get("Id", ""): relation.get("Target", "")
            for relation in root
            if relation.get("TargetMode") == "External" and relation.get("Type", "").endswith("/hyperlink")
        }

    def _footnotes(self) -> None:
        root = self._package.xml("word/footnotes.xml") if self._notes else None
        if root is None:
            return
        told = {note.get(W + "id", ""): note for note in root.iter(W + "footnote")}
        for number, key in enumerate(self._notes, 1):
            if key in told:
                self._draft.block(f"[^{number}]: {self._cell(told[key]).strip()}")


@lru_cache(maxsize=8)
def _styles(content: bytes) -> tuple[dict[str, int], dict[str, tuple[str, str]]]:
    """Levels of headings, and numbering and level of lists, by the id of the style."""
    root = xml_tree(content)
    headings: dict[str, int] = {}
    lists: dict[str, tuple[str, str]] = {}
    based: dict[str, str] = {}
    for style in root.iter(W + "style") if root is not None else ():
        key = style.get(W + "styleId", "")
        based[key] = _value(style, "basedOn")
        properties = style.find(W + "pPr")
        level, name = _value(properties, "outlineLvl"), _value(style, "name")
        if level.isdecimal():
            headings[key] = int(level) + 1
        elif told := _HEADING_NAME.match(name):
            headings[key] = int(told[1])
        elif name.lower() == "title":
            headings[key] = 1
        marks = properties.find(W + "numPr") if properties is not None else None
        if marks is not None:
            lists[key] = (_value(marks, "numId"), _value(marks, "ilvl"))
    for key in based:
        parent = key
        for _ in range(10):
            parent = based.get(parent, "")
            if key not in headings and parent in headings:
                headings[key] = headings[parent]
            if key not in lists and parent in lists:
                lists[key] = lists[parent]
    return headings, lists


def _blocks(element: Element) -> Iterator[Element]:
    """Paragraphs and tables in order; those in content controls too."""
    for child in element:
        if child.tag in (W + "p", W + "tbl"):
            yield child
        elif child.tag != W + "sectPr":
            yield from _blocks(child)


def _value(element: Element | None, name: str) -> str:
    found = element.find(W + name) if element is not None else None
    return found.get(W + "val", "") if found is not None else ""
