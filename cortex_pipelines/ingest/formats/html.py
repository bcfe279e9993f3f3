"""HTML: its visible text with headings, lists, tables and links. Nothing of it is run or loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cortex_pipelines.ingest.formats.draft import Draft
from cortex_pipelines.ingest.parsing import Parsed, Unreadable

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

UNSEEN = frozenset({"script", "style", "template", "noscript", "head", "title", "iframe", "object", "audio", "video"})
HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Elements that begin and end a paragraph; `dl`, forms and so on are read as the text in them.
BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "li", "main", "nav"),
        *("ol", "ul", "optgroup", "option", "p", "pre", "section", "select", "summary"),
        *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
    }
)
# To open an element takes the library time for each that is open.
DEPTH = 5_000
# Elements that must be closed; the others end by themselves.
_NESTING = re.compile(
    r"<(/?)(?!(?:p|li|br|img|hr|td|tr|th|tbody|thead|dt|dd|option|meta|link|input|source|col|wbr|area|base)\b)[a-z]",
    re.I,
)
INDENTED = 20
_SPACES = re.compile(r"[ \t\n\r\f]+")


def parse_html(media_type: str, text: str) -> Parsed:
    """A page."""
    tree = page_tree(text)
    draft = Draft()
    write_html(draft, tree.root)
    title = tree.css_first("title")
    return draft.parsed(
        media_type, title.text() if title else "", details={name: _told(tree.root, name) for name in ("author", "date")}
    )


def page_tree(text: str) -> LexborHTMLParser:
    """The tree of a page."""
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    if text.count("<") > DEPTH and _depth(text) > DEPTH:
        raise Unreadable("is nested too deep")
    try:
        return LexborHTMLParser(text)
    except SelectolaxError:
        # It takes any text; what it does not get is memory.
        raise Unreadable("needs too much memory") from None


def _depth(text: str) -> int:
    depth = most = 0
    for tag in _NESTING.finditer(text):
        if tag[1]:
            depth = max(0, depth - 1)
        else:
            depth += 1
            most = max(most, depth)
    return most


def write_html(draft: Draft, root: LexborNode | None) -> None:
    """What is seen of an element, into a draft."""
    if root is not None:
        _Walk(draft).run(root)


def _told(root: LexborNode | None, name: str) -> str:
    node = root.css_first(f'meta[name="{name}"]') if root is not None else None
    return (node.attributes.get("content") or "") if node is not None else ""


class _Walk:
    """One pass over a tree, without recursion: a hostile one is deep."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._words: list[str] = []
        self._lists: list[int | None] = []  # the next number of each list that is open; none of one with bullets
        self._marker = ""
        self._links: list[tuple[int, str]] = []
        self._literal = 0

    def run(self, root: LexborNode) -> None:
        node: LexborNode | None = root
        while node is not None:
            below = node.child if self._enter(node) else None
            while below is None and node is not None:
                self._leave(node)
                if node.mem_id == root.mem_id:
                    self._flush()
                    return
                below = node.next
                if below is None:
                    node = node.parent
            node = below

    def _enter(self, node: LexborNode) -> bool:
        """Whether to go into it."""
        tag = node.tag
        if tag == "-text":
            self._words.append(node.text_content or "")
            return False
        if tag in UNSEEN or tag == "-comment":
            return False
        if tag in HEADINGS or tag in BLOCKS:
            self._flush()
        elif tag == "br":
            self._words.append("\n" if self._literal else "\0")
        elif tag == "img":
            self._words.append(node.attributes.get("alt") or "")
        elif tag == "a":
            self._links.append((len(self._words), node.attributes.get("href") or ""))
        if tag in ("ul", "ol"):
            self._lists.append(1 if tag == "ol" else None)
        elif tag == "li":
            self._begin_item()
        elif tag == "pre":
            self._literal += 1
        elif tag == "table" and len(node.css("table")) == 1:
            self._table(node)
            return False
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag
        if tag in HEADINGS:
            words, self._words = _spaced("".join(self._words)).replace("\n", " "), []
            self._marker = ""
            self._draft.heading(HEADINGS[tag], words)
        elif tag in BLOCKS:
            self._flush()
            if tag == "pre":
                self._literal -= 1
            elif tag in ("ul", "ol") and self._lists:
                self._lists.pop()
                if not self._lists:
                    self._draft.apart()
        elif tag == "a" and self._links:
            self._end_link(*self._links.pop())

    def _begin_item(self) -> None:
        number = self._lists[-1] if self._lists else None
        self._marker = "  " * min(INDENTED, max(0, len(self._lists) - 1)) + ("- " if number is None else f"{number}. ")
        if number is not None:
            self._lists[-1] = number + 1

    def _end_link(self, start: int, target: str) -> None:
        words = _spaced("".join(self._words[start:])).strip()
        if words and start <= len(self._words) and re.match(r"(?i)(?:https?|mailto|ftp):|[^:#]+$", target):
            self._words[start:] = [f"[{words}]({target.strip()})" if words != target else words]

    def _flush(self) -> None:
        text = "".join(self._words)
        self._words.clear()
        # Links that a block lies in do not reach over its end.
        self._links = [(0, target) for _, target in self._links]
        text = text.replace("\0", "\n").strip("\n") if self._literal else _spaced(text)
        if not text.strip():
            return
        marker, self._marker = self._marker, ""
        if self._lists:
            indent = " " * len(marker) if marker else "  " * min(INDENTED, len(self._lists))
            text = marker + text.replace("\n", "\n" + indent) if marker else indent + text.replace("\n", "\n" + indent)
            self._draft.block(text, loose=False)
        else:
            self._draft.block(text)

    def _table(self, table: LexborNode) -> None:
        rows = []
        for row in table.css("tr"):
            cells = []
            for cell in row.css("td, th"):
                inner = Draft()
                _Walk(inner).run(cell)
                cells.append(" ".join(line for line in inner.lines if line))
            rows.append(cells)
        if caption := table.css_first("caption"):
            self._draft.block(_spaced(caption.text()).replace("\n", " "))
        self._draft.table(rows)


def _spaced(text: str) -> str:
    """Runs of spaces as one; a `br`, which is a NUL here, as an end of line."""
    lines = (_SPACES.sub(" ", line).strip(" ") for line in text.split("\0"))
    return "\n".join(lines).strip("\n")
