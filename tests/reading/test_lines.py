"""Lines of large files: every byte is accounted for, however the blocks fall."""

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.ingest.scan import open_plain
from cortex_pipelines.reading.lines import LINE_BYTES, Ledger, batches, blocks, read_lines

CONTENT = st.lists(
    st.sampled_from(
        [b"", b"a line", b"\xff\xfe broken", b"nul \0 here", "ümlaut".encode(), b"x" * (LINE_BYTES + 7), b"\r"]
    ),
    max_size=12,
).map(b"\n".join)


def read(content, cuts):
    ledger = Ledger()
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[a:b] for a, b in pairwise(edges) if a < b]
    return [(first, lines) for first, lines in batches(iter(pieces), ledger)], ledger


@given(CONTENT, st.lists(st.integers(0, 60_000), max_size=4))
def test_every_byte_is_read_or_skipped_whatever_the_blocks(content, cuts):
    found, ledger = read(content, cuts)
    assert ledger.adds_up
    assert ledger.total == len(content)
    numbered = [first + number for first, lines in found for number in range(len(lines))]
    assert numbered == list(range(1, ledger.lines + 1))


@given(CONTENT, st.lists(st.integers(0, 60_000), max_size=4))
def test_blocks_change_nothing_that_is_read(content, cuts):
    whole, _ = read(content, [])
    parts, _ = read(content, cuts)
    assert [line for _, lines in whole for line in lines] == [line for _, lines in parts for line in lines]


def test_lines_are_found_again_by_their_number(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(1, 10_001)))
    assert read_lines(path, {1, 5_000, 10_000, 20_000}) == {1: "line 1", 5_000: "line 5000", 10_000: "line 10000"}


def test_a_link_or_a_pipe_is_not_opened(tmp_path):
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="symbolic links"):
        open_plain(tmp_path / "link")
    with pytest.raises(OSError, match="no regular file"):
        open_plain(tmp_path / "pipe")


def test_no_more_is_read_than_asked_for(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    with open_plain(tmp_path / "a") as stream:
        assert b"".join(blocks(stream, most=30, size=8)) == b"x" * 30
