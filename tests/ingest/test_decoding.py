"""Bytes become the text that was meant, or are called binary."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.ingest.decoding import SAMPLE_BYTES, decode

RUSSIAN = "Привет, мир. Это русский текст про хранение всех показаний приборов.\n"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_utf_8_is_read_as_it_was_written(text: str) -> None:
    if not text.startswith("\ufeff"):
        assert decode(text.encode()) == text


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_nothing(content: bytes) -> None:
    assert decode(content) is None or isinstance(decode(content), str)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_obeyed_and_left_out(encoding: str) -> None:
    assert decode("Größe\n".encode(encoding)) == "Größe\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("# Autor: Jürgen Müller\n" + "x = 1\n" * 300, "latin-1"),
        ("café", "cp1252"),
        (RUSSIAN * 20, "koi8-r"),
        ("これは日本語のテキストです。漢字も混ざります。\n" * 20, "shift_jis"),
        (RUSSIAN * 2000, "cp1251"),
    ],
)
def test_an_older_encoding_is_told(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    "content",
    [b"PK\3\4\0\0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", random.Random(1).randbytes(SAMPLE_BYTES * 2)],
    ids=["zip", "png", "noise"],
)
def test_binary_is_no_text(content: bytes) -> None:
    assert decode(content) is None


def test_nothing_is_the_empty_text() -> None:
    assert decode(b"") == ""
