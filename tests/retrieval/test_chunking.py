"""Chunks: whatever the text, each is exactly what stands at its place, and together they hold all of it."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.ingest.formats.markup import markdown_headings
from cortex_pipelines.ingest.parsing import Heading, Page
from cortex_pipelines.retrieval import chunker
from cortex_pipelines.retrieval.chunker import CodeChunker
from cortex_pipelines.retrieval.chunking import MOST, Chunk, chunk_code, chunk_document

WORDS = st.lists(
    st.one_of(st.sampled_from(["receiver", "Zürich", "一二三四", "😀", "a", "x" * 400, "e.g. this", "`code`", "|"])),
    min_size=1,
    max_size=12,
).map(" ".join)


def repeated(parts: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    return st.builds(lambda part, times: part * times, parts, st.integers(1, most))


PARAGRAPHS = repeated(WORDS.map(lambda words: f"{words}. "), 40)
BLANKS = st.sampled_from(["\n", "\n\n", "\n \t\n", "\r\n\r\n", "\n" * 5, "\u00a0\n", "\x0b\x0c\n", "\u2028"])
MARKDOWN = st.lists(
    st.one_of(
        PARAGRAPHS,
        BLANKS,
        st.builds(lambda level, words: f"\n{'#' * level} {words}\n", st.integers(1, 6), WORDS),
        st.builds(lambda words: f"\n{words}\n===\n", WORDS),
        PARAGRAPHS.map(lambda text: f"\n```\n# no heading\n{text}\n```\n"),
        repeated(WORDS.map(lambda words: f"- {words}\n"), 30),
    ),
    max_size=12,
).map("".join)
PLAIN = st.one_of(
    st.text(max_size=300),
    repeated(st.text(min_size=1, max_size=20), 400),
    st.lists(st.one_of(BLANKS, PARAGRAPHS, st.text(max_size=50))).map("".join),
)
LANGUAGES = st.sampled_from(["python", "javascript", "go", "java", "c", "bash", "json", None])
CODE = st.lists(
    st.one_of(
        repeated(st.sampled_from(["def f(x):\n    return 'ü'\n\n", "x = [1, 2]\n", "# é comment\n", "\n\n"]), 60),
        repeated(st.sampled_from(["function f() {\n  g('😀');\n}\n", "class A { int x = 1; }\n", "{", "[", "("]), 200),
        st.text(max_size=30),
        WORDS,
    ),
    max_size=8,
).map("".join)


def check_places(text: str, chunks: list[Chunk]) -> None:
    data = text.encode()
    end = 0
    for chunk in chunks:
        assert data[chunk.byte_start : chunk.byte_end].decode() == chunk.text
        assert chunk.line_start == data.count(b"\n", 0, chunk.byte_start) + 1
        assert chunk.line_end == data.count(b"\n", 0, chunk.byte_end) + 1
        assert 0 < len(chunk.text) <= MOST
        assert data[end : chunk.byte_start].decode().strip() == ""
        end = chunk.byte_end
    assert data[end:].decode().strip() == ""


@given(MARKDOWN)
def test_chunks_of_markdown_are_exact_and_belong_to_one_section_each(text: str) -> None:
    headings = markdown_headings(text)
    chunks = chunk_document(text, headings)
    check_places(text, chunks)
    for chunk in chunks:
        above = [heading for heading in headings if heading.line <= chunk.line_start]
        assert chunk.section.split(" > ")[-1] == above[-1].text.split(" > ")[-1] if above else chunk.section == ""
        assert not any(chunk.line_start < heading.line <= chunk.line_end for heading in headings)


@given(PLAIN)
def test_chunks_of_plain_text_are_exact(text: str) -> None:
    check_places(text, chunk_document(text))


@pytest.fixture(scope="module")
def code_chunker() -> Iterator[CodeChunker]:
    """Random text can crash a grammar: only a child process reads it."""
    with CodeChunker() as opened:
        yield opened


@settings(deadline=None)
@given(text=CODE, language=LANGUAGES)
def test_chunks_of_code_are_exact_whatever_its_language(
    code_chunker: CodeChunker, text: str, language: str | None
) -> None:
    check_places(text, code_chunker.chunk(text, language))


@given(PLAIN, st.data())
def test_a_chunk_lies_on_one_page_and_names_it(text: str, data: st.DataObject) -> None:
    last = text.count("\n") + 1
    starts = sorted(data.draw(st.sets(st.integers(1, last), max_size=5)))
    chunks = chunk_document(text, (), [Page(number, line) for number, line in enumerate(starts, 1)])
    check_places(text, chunks)
    for chunk in chunks:
        assert chunk.page == (sum(line <= chunk.line_start for line in starts) or None)
        assert not any(chunk.line_start < line <= chunk.line_end for line in starts)


def test_a_section_is_named_by_the_headings_above_it() -> None:
    text = "before\n# One\na\n## Two\nb\n# Three\nc\n"
    sections = [(chunk.section, chunk.text) for chunk in chunk_document(text, markdown_headings(text))]
    assert sections == [("", "before"), ("One", "# One\na"), ("One > Two", "## Two\nb"), ("Three", "# Three\nc")]


def test_nothing_is_made_of_nothing() -> None:
    for text in ("", "\n", " \n\t\n "):
        assert chunk_document(text, [Heading(1, "", 1)]) == chunk_code(text, "python") == chunk_code(text, None) == []


def test_functions_are_not_torn_apart_where_they_fit() -> None:
    function = (
        "def name_{0}(value):\n" + "".join(f"    value = value + {n}\n" for n in range(30)) + "    return value\n"
    )
    text = "\n\n".join(function.replace("{0}", str(number)) for number in range(10))
    chunks = chunk_code(text, "python")
    assert len(chunks) > 3
    assert all(chunk.text.startswith("def name_") and chunk.text.endswith("return value") for chunk in chunks)


def test_prose_is_cut_at_a_paragraph_rather_than_in_a_sentence() -> None:
    text = "\n\n".join("This is a sentence. " * 15 for _ in range(12))
    assert all(chunk.text.endswith("sentence.") for chunk in chunk_document(text))


def test_deeply_nested_code_is_cut_like_any_other() -> None:
    for text, language in (("class A { int x = " + "a<" * 5_000, "java"), ("(\n" * 100_000, "python")):
        check_places(text, chunk_code(text, language))


def test_the_chunker_gives_the_chunks_that_the_function_gives() -> None:
    texts = [("def f():\n    return 'ü'\n" * 200, "python"), ("key: value\n", None), ("x" * 2_000_000, "python")]
    with CodeChunker() as opened:
        assert [opened.chunk(*given) for given in texts] == [chunk_code(*given) for given in texts]


def test_code_that_breaks_its_parser_is_cut_as_plain_text_and_the_next_file_as_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunker, "SECONDS", 4.0)
    hostile = "class A { int x = " + "a<" * 50_000
    # The bash grammar reads beyond a table of C, which ends the child or does not.
    character = "{\U0010fffd\n" * 3
    with CodeChunker() as opened:
        check_places(character, opened.chunk(character, "bash"))
        assert opened.chunk(hostile, "java") == chunk_document(hostile)
        assert opened.chunk("x = 1\n", "python") == chunk_code("x = 1\n", "python")
