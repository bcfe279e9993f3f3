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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
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


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["a\n", "Größe\r\n", RUSSIAN * 3, "这是一个文件\n我们写了它\n" * 20, "emoji 😀\n" * 5_000]
)
def test_utf_16_without_a_mark_is_told_by_its_characters(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    "head", ['<html><head><meta charset="{}"></head>', '<?xml version="1.0" encoding="{}"?>', "# -*- coding: {} -*-\n"]
)
def test_a_text_may_say_its_encoding_itself(head: str) -> None:
    text = head.format("iso-8859-2") + "Příliš žluťoučký kůň"
    assert decode(text.encode("iso-8859-2")) == text
    assert decode(head.format("latin-nonsense").encode() + b"caf\xe9") == head.format("latin-nonsense") + "café"


@pytest.mark.parametrize(
    "content",
    [
        b"\0\1\2\3\4\5\6\7",
        b"a\0b\0\0\0c\0",
        b"\x7fELF\2\1\1" + bytes(9),
        b"PK\3\4\0\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        random.Random(1).randbytes(SAMPLE_BYTES * 2),
    ],
    ids=["numbers", "nul", "elf", "zip", "png", "noise"],
)
def test_binary_is_no_text(content: bytes) -> None:
    assert decode(content) is None


def test_nothing_is_the_empty_text() -> None:
    assert decode(b"") == ""
