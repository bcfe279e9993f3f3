"""Escaping: whatever a text holds, a report shows it and obeys none of it."""

import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from cortex_pipelines.reports.html import page
from cortex_pipelines.reports.markdown import code, escape, excerpt, paragraphs, quote_block, table, visible

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</code></p><iframe src='http://x.example'>",
    "<!-- comment",
    "<![CDATA[",
    "[x](javascript:alert(1))",
    "![x](http://x.example/a.png)",
    "![](http://x.example)",
    "[a]: http://x.example",
    "[a]",
    "<http://x.example>",
    "http://x.example",
    "www.x.example",
    "a@x.example",
    "`",
    "``",
    "```",
    "~~~",
    "|",
    "\\|",
    "\\",
    "\\\\|",
    "||---|",
    "---",
    "===",
    "***",
    "**bold**",
    "_under_ __under__",
    "# heading",
    "> quote",
    "- item",
    "+ item",
    "1. item",
    "1) item",
    "    four",
    "\tfour",
    "&lt;",
    "&amp;lt;script&amp;gt;",
    "&#60;script&#62;",
    "&copy;",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "  \n",
    "{{ title }}",
    "{% raw %}",
    "$x$",
    "[^1]",
    "~~gone~~",
    "\x00",
    "\x1b[31m",
    "\u202e",
    "\u200b",
    "\u2028",
    "\x0b",
    "\ufeff",
    "é😀",
]
TEXTS = st.one_of(
    st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=4)), min_size=1, max_size=6).map("".join),
    st.text(alphabet="\\|`<>[]()!*_-#&; \n\ta1.", min_size=1, max_size=30),
    st.text(min_size=1),
).filter(lambda text: text.strip() != "")

PLACES: dict[str, Callable[[str], str]] = {
    "paragraph": escape,
    "after words": lambda text: f"It is {escape(text)}.",
    "heading": lambda text: f"## {escape(text)}",
    "item": lambda text: f"- {escape(text)}",
    "cell": lambda text: table(("what", "why"), [(escape(text), "x"), ("x", escape(text))]),
    "code": code,
    "code in a sentence": lambda text: f"It is in {code(text)}.",
    "code in a heading": lambda text: f"## {code(text)}",
    "code in a cell": lambda text: table(("what", "why"), [(code(text), "x"), ("x", f"{escape(text)} ({code(text)})")]),
    "block": quote_block,
    "block after code": lambda text: paragraphs(code(text), quote_block(text, most_lines=1_000)),
}


def main_of(markdown: str) -> LexborHTMLParser:
    tree = LexborHTMLParser(page("title", paragraphs("before", markdown, "after"), []))
    main = tree.css_first("main")
    assert main is not None
    return main


def elements(markdown: str) -> Counter[str]:
    return Counter(node.tag for node in main_of(markdown).css("*"))


def shown(markdown: str) -> str:
    return " ".join(main_of(markdown).text(deep=True, separator=" ").split())


def seen(text: str) -> str:
    """What a reader sees of a text: what cannot be printed by its code, lines and blanks as blanks."""
    line = re.sub(r"[\r\n]+", " ", text)
    told = "".join(char if char.isprintable() or char == "\t" else f"<U+{ord(char):04X}>" for char in line)
    return " ".join(told.split())


@pytest.mark.parametrize("place", [place for place in PLACES if "block" not in place])
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_a_text_makes_no_element_and_is_shown_as_it_is(place: str, text: str) -> None:
    render = PLACES[place]
    assert elements(render(text)) == elements(render("x"))
    # Where `x` stands for the text, the same page shows the text.
    marked = shown(render("MARK"))
    assert shown(render(text)).replace(" ", "") == marked.replace("MARK", seen(text)).replace(" ", "")


@pytest.mark.parametrize("place", [place for place in PLACES if "block" in place])
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_a_block_of_lines_ends_where_it_should_and_holds_no_element(place: str, text: str) -> None:
    render = PLACES[place]
    assert elements(render(text)) == elements(render("x"))
    assert shown(render(text)).endswith("after")


@settings(deadline=None)
@given(text=TEXTS)
def test_a_block_shows_every_line_as_it_is(text: str) -> None:
    block = main_of(quote_block(text, most_lines=10_000)).css_first("pre")
    assert block is not None
    assert block.text(deep=True) == "\n".join(visible(line) for line in text.split("\n")) + "\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_title_and_the_links_of_a_page_are_text_too(text: str) -> None:
    tree = LexborHTMLParser(page(text, "x", [(text, "index.html")]))
    plain = LexborHTMLParser(page("x", "x", [("x", "index.html")]))
    assert [node.tag for node in tree.css("*")] == [node.tag for node in plain.css("*")]
    [link] = tree.css("a")
    assert link.attributes == {"href": "index.html"}


def test_a_long_block_is_cut_and_says_so() -> None:
    assert quote_block("a\nb\nc", most_lines=2) == "```text\na\nb\n…\n```"


def test_a_table_without_rows_is_nothing() -> None:
    assert table(("a",), []) == ""


def test_an_excerpt_is_cut_at_a_heading_and_says_how_much_is_missing() -> None:
    report = "# A\n\n" + "word " * 30 + "\n\n## B\n\n" + "word " * 100
    cut = excerpt(report, 300)
    assert cut.startswith("# A\n\nword")
    assert "## B" not in cut
    kept = report.index("\n\n## B")
    assert cut.endswith(
        f"\n\n*{len(report) - len(report[:kept].rstrip()):,} more characters are in the report file.*\n"
    )
    assert excerpt(report, len(report)) == report
