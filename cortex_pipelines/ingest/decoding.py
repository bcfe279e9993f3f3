"""Bytes as text: which of them are text at all, and in which encoding."""

import codecs
import re

# Git's own test: a NUL among the first bytes makes a file binary.
BINARY_BYTES = 8 * 2**10
# Enough to tell an encoding by; detection takes some 20 ms for this much, whatever it is.
SAMPLE_BYTES = 32 * 2**10


def decode(content: bytes) -> str | None:
    """The text of bytes, without a byte order mark; None when they are binary or in no encoding that can be told.

    UTF-8 where it is valid, UTF-16 where a mark says so, else what charset-normalizer finds likely.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _strictly(content, "utf-16")
    if b"\0" in content[:BINARY_BYTES]:
        return None
    text = _strictly(content, "utf-8-sig")
    # Letters with accents that stand alone among ASCII are Western: too little for statistics, which take them for any.
    if text is None and not re.search(rb"[\x80-\xff]{2}", content):
        text = _strictly(content, "cp1252")
    return _guessed(content) if text is None else text


def _guessed(content: bytes) -> str | None:
    from charset_normalizer import from_bytes

    # Cut at a line's end, so that no character is cut in two.
    sample = content[:SAMPLE_BYTES]
    if len(content) > SAMPLE_BYTES and b"\n" in sample:
        sample = sample[: sample.rindex(b"\n")]
    best = from_bytes(sample).best()
    return _strictly(content, best.encoding) if best else None


def _strictly(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeError:
        return None
