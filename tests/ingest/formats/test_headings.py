"""Headings of Markdown: the same as those of a second parser, on texts that were made to differ and on real ones."""

# ruff: noqa: E501  files are written as they are

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cortex_pipelines.ingest.formats import markup
from cortex_pipelines.ingest.formats.markup import markdown_headings

ROOT = Path(__file__).parents[3]
PIECES = (
    *("# a", "## b ##", "###", "#no", "####### seven", "a", "b c", "===", "---", "- ", "-", "1. ", "> ", ">", "```", "~~~"),
    *("    ", "  ", " ", "\t", "<div>", "</div>", "<!--", "-->", "*", "***", "`x`", "\\", "\\# x", "# é", "ü\n==", "=", "| a |"),
    *("[x]: y\n\n", "<h1>", '<h1 data-sourcepos="1:1-1:2">', "&amp;", "\n", "\n\n"),
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.lists(
    st.sampled_from(PIECES), max_size=14
).map("\n".join)


def by_markdown_it(text):
    tokens = MarkdownIt("commonmark").parse(text)
    return [
        (int(token.tag[1]), stripped(tokens[number + 1].content), token.map[0] + 1)
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and token.map
    ]


def ours(text):
    return [(heading.level, stripped(heading.text), heading.line) for heading in markdown_headings(text)]


def stripped(text):
    """A heading of several lines, without the spaces around each."""
    return [line.strip() for line in text.split("\n")]


@given(TEXTS)
@example("> a\n> b\n> ===\n")
@example("[x]: y\nü\n==\n")
@example("- # a\n  b\n  ---\n")
@settings(max_examples=1_000, deadline=None)
def test_made_texts(text):
    if not text.startswith("---"):
        assert ours(text) == by_markdown_it(text)


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name)
def test_real_texts(path):
    text = path.read_text()
    assert ours(text) == by_markdown_it(text)
    assert ours(text)


@pytest.mark.parametrize("characters", [4_000, 20_000, 10**9])
def test_a_long_text_is_read_in_pieces_and_has_the_same_headings(monkeypatch, characters):
    text = "\n".join(path.read_text() for path in sorted(ROOT.glob("docs/*.md")))
    monkeypatch.setattr(markup, "TREE_CHARACTERS", characters)
    assert ours(text) == by_markdown_it(text)
    for line in ("x" * 50_000, "> # in a quote\n" * 5_000, "- " * 3_000 + "# deep\n"):
        # No place to cut at: some heading may be missed, none is invented where there is no mark.
        assert len(markdown_headings(line)) <= line.count("#")
