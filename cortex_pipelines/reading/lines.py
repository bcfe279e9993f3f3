"""Lines of files of any size in constant memory, with every byte accounted for."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cortex_pipelines.ingest.scan import open_plain

BLOCK_BYTES = 4 * 2**20
# No line that a person or a program wrote to be read is longer; the rest of one that is, is not read.
LINE_BYTES = 16 * 2**10

LONG = "tail of a long line"
BINARY = "binary"
UNDECODABLE = "not UTF-8"


@dataclass
class Ledger:
    """What became of each byte of a file: read, or skipped with a reason; lines are counted either way."""

    total: int = 0
    read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    lines_skipped: Counter[str] = field(default_factory=Counter)

    @property
    def adds_up(self) -> bool:
        """Whether every byte is either read or skipped."""
        return self.total == self.read + self.skipped.total()


def blocks(stream: BinaryIO, most: int | None = None, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """A stream in blocks, at most `most` bytes of it."""
    left = most
    while block := stream.read(size if left is None else min(size, left)):
        yield block
        if left is not None:
            left -= len(block)


def batches(given: Iterator[bytes], ledger: Ledger) -> Iterator[tuple[int, list[bytes]]]:
    """Lines in batches, each with the number of its first line, 1-based; they end at line feeds, which are taken off.

    A line is cut at `LINE_BYTES`. One that is binary or no UTF-8 is empty here: only the ledger tells of it.
    """
    held, cutting = b"", False
    for block in given:
        ledger.total += len(block)
        if cutting:
            end = block.find(b"\n")
            ledger.skipped[LONG] += len(block) if end < 0 else end
            if end < 0:
                continue
            block = block[end:]
        data = held + block
        end = data.rfind(b"\n") + 1
        held = data[end:]
        cutting = len(held) > LINE_BYTES
        if cutting:
            ledger.skipped[LONG] += len(held) - LINE_BYTES
            ledger.lines_skipped[LONG] += 1
            held = held[:LINE_BYTES]
        if end:
            yield _readable(data[:end], ledger)
    if held:
        yield _readable(held, ledger)


def read_lines(path: Path, numbers: Collection[int]) -> dict[int, str]:
    """The text of some lines of a file by number, as `batches` gives them; one that is not there is left out.

    Memory does not grow with the file; it is read up to the last line asked for. Raises `OSError`.
    """
    wanted = sorted(numbers)
    found: dict[int, str] = {}
    with open_plain(path) as stream:
        for first, lines in batches(blocks(stream), Ledger()):
            while len(found) < len(wanted) and wanted[len(found)] < first + len(lines):
                number = wanted[len(found)]
                found[number] = lines[number - first].decode("utf-8", "ignore") if number >= first else ""
            if len(found) == len(wanted):
                break
    return found


def _readable(data: bytes, ledger: Ledger) -> tuple[int, list[bytes]]:
    """Whole lines, cleared of what cannot be read."""
    first = ledger.lines + 1
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    ledger.lines += len(lines)
    ledger.read += len(data)
    if b"\0" in data or not _is_utf8(data) or max(map(len, lines)) > LINE_BYTES:
        lines = [_checked(line, ledger) for line in lines]
    return first, lines


def _checked(line: bytes, ledger: Ledger) -> bytes:
    if len(line) > LINE_BYTES:
        _skip(ledger, LONG, len(line) - LINE_BYTES)
        line = line[:LINE_BYTES]
    # A cut may fall within a character, of at most four bytes.
    cut = len(line) == LINE_BYTES
    if b"\0" in line:
        reason = BINARY
    elif _is_utf8(line) or (cut and any(_is_utf8(line[:-lost]) for lost in (1, 2, 3))):
        return line
    else:
        reason = UNDECODABLE
    _skip(ledger, reason, len(line))
    return b""


def _skip(ledger: Ledger, reason: str, size: int) -> None:
    ledger.read -= size
    ledger.skipped[reason] += size
    ledger.lines_skipped[reason] += 1


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
