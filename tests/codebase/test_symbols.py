"""What is read from one source file: symbols, imports and functions, with their lines."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.codebase.grammars import QUERIES
from cortex_pipelines.codebase.reader import CodeReader
from cortex_pipelines.codebase.symbols import Import, read_code

PYTHON = '''import os
from json import (
    dumps,
    loads as read,
)

LIMIT = 3


class Store:
    """A store."""

    def add(self, row):
        import sys
        return sys, row

    async def get(self):
        def inner():
            return 1

        return inner


@decorated
def main(
    name: str,
) -> None:
    if name and LIMIT:
        for _ in name:
            os.fork()
'''

JAVASCRIPT = """import { a } from "./a.js";
export * from "./b.js";
const fs = require("fs");

const LIMIT = 3;

export class Store extends Base {
  add(row) {
    return row;
  }
}

export const double = (x) => x * 2;

function main() {
  return import("./late.js");
}

function* numbers() {
  // FIXME: more of them
  yield 1;
}
"""


def shown(text: str, language: str) -> list[tuple[str, str, int, int, str]]:
    return [
        (symbol.qualified, symbol.kind, symbol.line_start, symbol.line_end, symbol.signature)
        for symbol in read_code(text, language).symbols
    ]


def test_the_definitions_of_a_python_file_have_their_kinds_and_exact_lines() -> None:
    assert shown(PYTHON, "python") == [
        ("LIMIT", "constant", 7, 7, "LIMIT = 3"),
        ("Store", "class", 10, 21, "class Store:"),
        ("Store.add", "method", 13, 15, "def add(self, row):"),
        ("Store.get", "method", 17, 21, "async def get(self):"),
        ("Store.get.inner", "function", 18, 19, "def inner():"),
        ("main", "function", 25, 30, "def main("),
    ]


def test_the_imports_of_a_python_file_have_their_lines_and_those_in_functions_are_deferred() -> None:
    assert read_code(PYTHON, "python").imports == (
        Import("os", 1),
        Import("json.dumps", 2),
        Import("json.loads", 2),
        Import("sys", 14, deferred=True),
    )


def test_an_import_for_the_type_checker_only_is_deferred() -> None:
    text = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import heavy\n"
    assert read_code(text, "python").imports[1:] == (Import("heavy", 4, deferred=True),)


def test_the_definitions_of_a_javascript_file_have_their_kinds_and_exact_lines() -> None:
    assert shown(JAVASCRIPT, "javascript") == [
        ("LIMIT", "constant", 5, 5, "const LIMIT = 3;"),
        ("Store", "class", 7, 11, "export class Store extends Base {"),
        ("Store.add", "method", 8, 10, "add(row) {"),
        ("double", "function", 13, 13, "export const double = (x) => x * 2;"),
        ("main", "function", 15, 17, "function main() {"),
        ("numbers", "function", 19, 22, "function* numbers() {"),
    ]


def test_the_imports_of_a_javascript_file_have_their_lines() -> None:
    assert read_code(JAVASCRIPT, "javascript").imports == (
        Import("./a.js", 1),
        Import("./b.js", 2),
        Import("fs", 3),
        Import("./late.js", 16, deferred=True),
    )


def test_the_shape_of_a_function_is_counted() -> None:
    main = read_code(PYTHON, "python").functions[-1]
    # 1 + if + and + for, two deep.
    assert (main.qualified, main.lines, main.complexity, main.nesting) == ("main", 6, 4, 2)


def test_a_note_in_a_comment_is_found_at_its_line_and_one_in_a_string_is_not() -> None:
    [note] = read_code(JAVASCRIPT, "javascript").notes
    assert (note.kind, note.line) == ("FIXME", 20)
    assert read_code('text = "FIXME: nothing"\n', "python").notes == ()


def test_a_language_without_a_grammar_is_left_out_with_the_reason() -> None:
    assert read_code("x", "klingon").left_out == "no grammar for klingon"


# Bash's grammar reads beyond a table of C for a character like U+10FFFD: only a child process reads random text.
BROKEN = ("its parser failed: it crashed or ran out of memory", "its parser took more than 10 s")
PIECES = [
    *("def f(", "):\n", "class A", "{", "}", "(", ")", "import ", "from x import y\n", "'", '"', "`", "é", "\n", "\0"),
    *("function f() {", "=> ", "if (a) ", "// FIXME\n", "# FIXME\n", "    ", "\r\n", "😀", "A = 1\n", "eval(x)\n"),
]


@pytest.fixture(scope="module")
def code_reader() -> Iterator[CodeReader]:
    with CodeReader() as opened:
        yield opened


@settings(deadline=None)
@given(
    text=st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=40).map("".join),
    language=st.sampled_from(sorted(QUERIES)),
)
def test_no_text_breaks_the_reading_and_every_line_it_names_is_there(
    code_reader: CodeReader, text: str, language: str
) -> None:
    code = code_reader.read(text, language)
    most = text.count("\n") + 1
    assert code.parsed or code.left_out in BROKEN
    assert code.lines in (most, most - 1)
    assert 0 <= code.code_lines <= code.lines
    for symbol in code.symbols:
        assert 1 <= symbol.line_start <= symbol.line_end <= most
    for mark in (*code.imports, *code.notes, *code.hits, *code.duplicates):
        assert 1 <= mark.line <= most


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x" * 1_000_001, "longer than 1,000,000 characters"), ("a=1;" * 1_000, "minified")],
)
def test_a_file_that_nobody_wrote_by_hand_is_left_out_with_the_reason(text: str, reason: str) -> None:
    code = read_code(text, "javascript")
    assert (code.left_out, code.symbols) == (reason, ())
