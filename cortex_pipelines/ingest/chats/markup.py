"""HTML of a message as Markdown."""

import re
from collections.abc import Iterator
from typing import Any

# Deeper than any answer is nested; what is below is taken as text.
DEPTH = 60
_BLOCKS = frozenset(["p", "div", "section", "article", "blockquote", "ul", "ol", "table", "thead", "tbody"])


def markdown(html: str) -> str:
    """Markdown of a piece of HTML: paragraphs, headings, lists, tables, links and code."""
    from selectolax.lexbor import LexborHTMLParser

    body = LexborHTMLParser(html).body
    text = "" if body is None else "".join(_children(body, 0))
    return re.sub(r"[ \t]+\n", "\n", re.sub(r"\n\s*\n\s*\n", "\n\n", text)).strip()


def _children(node: Any, depth: int) -> Iterator[str]:
    for child in node.iter(include_text=True):
        yield _text_of(child, depth + 1)


def _text_of(node: Any, depth: int) -> str:
    tag = node.tag
    if tag == "-text":
        return re.sub(r"\s+", " ", node.text())
    if tag in ("script", "style", "template"):
        return ""
    if tag == "br":
        return "\n"
    if tag == "pre":
        return f"\n\n{_code(node)}\n\n"
    if depth > DEPTH:
        return str(node.text())
    inner = "".join(_children(node, depth))
    if tag == "code":
        return f"`{inner.strip()}`" if inner.strip() else ""
    if tag in ("strong", "b"):
        return f"**{inner.strip()}**" if inner.strip() else ""
    if tag == "a":
        address = node.attributes.get("href") or ""
        return f"[{inner.strip()}]({address})" if re.match(r"https?://[^\s()]+$", address) else inner
    if tag == "li":
        return "\n- " + re.sub(r"\s*\n\s*", "\n  ", inner.strip())
    if tag == "tr":
        return _row(node)
    if re.fullmatch(r"h[1-6]", tag):
        return f"\n\n{'#' * int(tag[1])} {' '.join(inner.split())}\n\n"
    return f"\n\n{inner}\n\n" if tag in _BLOCKS else inner


def _row(node: Any) -> str:
    cells = [" ".join(cell.text().split()).replace("|", "\\|") for cell in node.css("td, th")]
    rule = "\n" + "| --- " * len(cells) + "|" if node.css_first("th") is not None else ""
    return f"\n| {' | '.join(cells)} |{rule}"


def _code(node: Any) -> str:
    from cortex_pipelines.ingest.chats.transcripts import fenced

    code = node.css_first("code")
    classes = (code.attributes.get("class") or "") if code is not None else ""
    language = re.search(r"language-(\S+)", classes)
    return fenced(node.text().strip("\n"), language[1] if language else "")
