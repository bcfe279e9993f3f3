"""Bytes as text: which of them are text at all, and in which encoding."""

import codecs
import re
import unicodedata

# Git's own test: a NUL among the first bytes makes a file binary.
BINARY_BYTES = 8 * 2**10
# Enough to tell an encoding by; detection takes some 20 ms for this much, whatever it is.
SAMPLE_BYTES = 32 * 2**10
# At once, a decoder asks for four times the bytes where one character is wide.
AT_ONCE_BYTES = 2**20
# Of the characters of a text in UTF-16, at least so many are ASCII letters or blanks: Chinese has ends of lines.
ASCII_SHARE = 0.02
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What HTML, XML and others say of themselves, among the encodings that are only ever text.
_DECLARED = re.compile(
    rb"(?i)(?:charset|encoding|coding)\s*[=:]\s*[\"']?"
    rb"((?:iso-?8859|windows-|cp|koi8|shift|euc|gb|big5|mac|latin)[\w-]{0,20})"
)


def decode(content: bytes) -> str | None:
    """The text of bytes, without a byte order mark; None when they are binary or in no encoding that can be told.

    UTF-8 where it is valid, UTF-16 and UTF-32 where a mark says so or the characters do, else what the text says of
    itself, else what charset-normalizer finds likely.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _strictly(content, encoding)
    if b"\0" in content[:BINARY_BYTES]:
        return _unmarked(content)
    text = _strictly(content, "utf-8-sig")
    if text is None and (declared := _DECLARED.search(content[:1024])):
        text = _strictly(content, declared[1].decode())
    # Letters with accents that stand alone among ASCII are Western: too little for statistics, which take them for any.
    if text is None and not re.search(rb"[\x80-\xff]{2}", content):
        text = _strictly(content, "cp1252")
    return _guessed(content) if text is None else text


def _unmarked(content: bytes) -> str | None:
    """UTF-16 without a mark: in the order of bytes in which it is text."""
    sample = content[:BINARY_BYTES]
    # A character of two halves may be cut.
    shares = {encoding: _text_share(sample.decode(encoding, "ignore")) for encoding in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda encoding: shares[encoding])
    return _strictly(content, best) if shares[best] >= ASCII_SHARE else None


def _text_share(text: str) -> float:
    """The share of ASCII letters and blanks; none where any character is no text at all."""
    if not text or any(
        unicodedata.category(char) in ("Cc", "Cn", "Co", "Cs") and char not in "\t\n\r\f" for char in text
    ):
        return 0.0
    return sum(char.isascii() and (char.isalnum() or char.isspace()) for char in text) / len(text)


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
        if len(content) <= AT_ONCE_BYTES:
            return content.decode(encoding)
        decoder = codecs.getincrementaldecoder(encoding)()
        pieces = [decoder.decode(content[at : at + AT_ONCE_BYTES]) for at in range(0, len(content), AT_ONCE_BYTES)]
        return "".join([*pieces, decoder.decode(b"", final=True)])
    except (UnicodeError, LookupError):
        return None
