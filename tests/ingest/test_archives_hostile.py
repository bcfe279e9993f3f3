"""An archive made to do harm does none: nothing is written, nothing followed, and time and memory stay in bounds."""

import io
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex_pipelines.ingest import archives
from cortex_pipelines.ingest.archives import Limits, Member, archive_kind, members
from tests.ingest.archive_building import (
    COMPRESS,
    FORMATS,
    end_of_zip,
    file_info,
    make_7z,
    make_tar,
    make_zip,
    nested,
    pack,
    quine,
    write,
    zip_of,
)
from tests.ingest.test_archives import LIMITS, read

WAYS_OUT = {
    "../out.md": "leads out",
    "a/../../out.md": "leads out",
    "../../../../../../etc/out.md": "leads out",
    "/etc/out.md": "absolute",
    "//etc/out.md": "absolute",
    "..\\out.md": "backslash",
    "\\\\server\\share\\out.md": "backslash",
    "C:out.md": "drive",
    "c:/out.md": "drive",
    "a/./../out.md": "leads out",
    "a//b.md": "empty part",
    "a/./b.md": "empty part",
    "..": "leads out",
    "a\x00.md": "control",
    "a\n.md": "control",
    "a\x1b[31m.md": "control",
    "a\x7f.md": "control",
    "a\u202egpj.md": "turn the direction",
    "a\u2066b.md": "turn the direction",
    "a\u2028b.md": "control characters",
}


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path: Path) -> Iterator[None]:
    """What the test itself put there is all that is there, above and below."""
    outside = [tmp_path.parent, Path.cwd(), Path(tempfile.gettempdir()), Path("/etc"), Path("/")]
    before = [{path.name for path in folder.iterdir() if "out" in path.name} for folder in outside]
    yield
    assert [{path.name for path in folder.iterdir() if "out" in path.name} for folder in outside] == before
    assert {path.name for path in tmp_path.iterdir()} <= {"x", "y"}


def only_refused(path: Path, limits: Limits = LIMITS) -> dict[str, str]:
    found, refused = read(path, limits)
    assert found == {}
    return refused


@pytest.mark.parametrize("name", WAYS_OUT)
@pytest.mark.parametrize("form", ["zip", "tar", "7z"])
def test_no_spelling_of_a_way_out_is_taken(tmp_path: Path, form: str, name: str) -> None:
    if form == "zip":
        data = zip_of([(name.encode(), b"x\n"), (b"good.md", b"good\n")])
    elif form == "tar":
        if "\0" in name:
            # A tar's names end there.
            return
        data = make_tar([file_info(name, b"x\n"), file_info("good.md", b"good\n")])
    else:
        stand_in = "#" * len(name.encode("utf-16-le")) if "\0" in name else name
        if "\0" in name or name.startswith(("/", "..", "a/..", "C:", "c:", "a//", "a/.")):
            # The library cleans the names that it writes; what ours makes of them is seen in zips.
            return
        data = make_7z({stand_in: b"x\n", "good.md": b"good\n"})
    found, refused = read(write(tmp_path / "x", data))
    assert found == {"good.md": b"good\n"}
    [(shown, reason)] = refused.items()
    assert WAYS_OUT[name] in reason
    assert shown.isprintable()


def test_names_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    tar = make_tar([file_info("aXX.md", b"x\n")], tarfile.USTAR_FORMAT)
    spoilt = bytearray(tar.replace(b"aXX.md", b"a\xff\xfe.md"))
    spoilt[148:156] = b"%06o\0 " % (sum(spoilt[:148]) + 8 * 32 + sum(spoilt[156:512]))
    for data in (bytes(spoilt), zip_of([(b"a\xff\xfe.md", b"x\n")])):
        assert list(only_refused(write(tmp_path / "x", data)).values()) == ["its name is not valid UTF-8"]


def test_a_name_of_a_megabyte_is_refused_and_shown_short(tmp_path: Path) -> None:
    refused = only_refused(write(tmp_path / "x", make_tar([file_info("n" * 2**19, b"x\n")])))
    assert list(refused.values()) == ["its name is longer than 1000 bytes"]
    assert len(next(iter(refused))) < 400


def test_links_and_devices_are_told_and_never_followed(tmp_path: Path) -> None:
    data = make_tar(
        [
            file_info("passwd", kind=tarfile.SYMTYPE, to="/etc/passwd"),
            file_info("up", kind=tarfile.SYMTYPE, to="../.."),
            file_info("up/out.md", b"through the link\n"),
            file_info("hard", kind=tarfile.LNKTYPE, to="/etc/passwd"),
            file_info("pipe", kind=tarfile.FIFOTYPE),
            file_info("null", kind=tarfile.CHRTYPE),
            file_info("disk", kind=tarfile.BLKTYPE),
        ]
    )
    found, refused = read(write(tmp_path / "x", data))
    assert found == {"up/out.md": b"through the link\n"}
    assert refused == {
        "passwd": "is a symbolic link",
        "up": "is a symbolic link",
        "hard": "is a hard link",
        "pipe": "is a device or a pipe",
        "null": "is a device or a pipe",
        "disk": "is a device or a pipe",
    }


@pytest.mark.parametrize(("mode", "reason"), [(0o120777, "is a symbolic link"), (0o010644, "is a device or a pipe")])
def test_what_a_zip_says_is_no_plain_file_is_refused(tmp_path: Path, mode: int, reason: str) -> None:
    assert only_refused(write(tmp_path / "x", make_zip({"a": b"/etc/passwd"}, mode=mode))) == {"a": reason}


def test_a_git_folder_in_any_spelling_is_told_once_and_left_out(tmp_path: Path) -> None:
    names = [".git/config", ".git/hooks/pre-commit", "a/.GIT/config", "b/git~1/config", "c/.git /x", "d/.g\u200cit/x"]
    found, refused = read(write(tmp_path / "x", make_zip(dict.fromkeys([*names, ".github/x", ".gitignore"], b"x\n"))))
    assert set(found) == {".github/x", ".gitignore"}
    assert set(refused) == {".git", "a/.GIT", "b/git~1", "c/.git ", "d/.g\u200cit"}
    assert all("is a git folder" in reason for reason in refused.values())


@pytest.mark.parametrize("hide", [True, False])
def test_what_is_encrypted_says_so(tmp_path: Path, hide: bool) -> None:
    locked = make_7z({"a.md": b"secret\n"}, password="open", hide=hide)
    path = "" if hide else "a.md"
    assert only_refused(write(tmp_path / "x", locked)) == {path: "is encrypted: save it without a password"}
    data = bytearray(make_zip({"a.md": b"secret\n"}))
    data[data.index(b"PK\1\2") + 8] |= 1
    assert only_refused(write(tmp_path / "y", bytes(data))) == {"a.md": "is encrypted: save it without a password"}


# Bombs.


def zeros(size: int) -> Iterator[bytes]:
    while size:
        yield bytes(min(size, 2**20))
        size -= min(size, 2**20)


def test_a_bomb_in_a_zip_is_not_unpacked(tmp_path: Path) -> None:
    data = make_zip({"bomb.txt": bytes(40 * 2**20), "good.md": b"good\n"})
    found, refused = read(write(tmp_path / "x", data))
    assert found == {"good.md": b"good\n"}
    assert refused == {"bomb.txt": "unpacks to more than 200 times its size"}


def test_a_member_that_lies_about_its_size_gives_no_more(tmp_path: Path) -> None:
    data = bytearray(make_zip({"bomb.txt": bytes(40 * 2**20)}))
    for mark, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<L", data, data.index(mark) + place, 1_000)
    assert only_refused(write(tmp_path / "x", bytes(data))) == {"bomb.txt": "is damaged"}


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("packed", [True, False])
def test_a_compressed_bomb_is_given_up(tmp_path: Path, kind: str, packed: bool) -> None:
    content = bytes(60 * 2**20)
    data = COMPRESS[kind](make_tar([file_info("bomb", content)]) if packed else content)
    assert len(data) < 2**17
    [(path, reason)] = only_refused(write(tmp_path / "x", data), Limits(member_bytes=2**30)).items()
    assert path == ""
    assert reason == "unpacks to more than 200 times its size: the rest is not read"


def test_a_bomb_in_7z_is_given_up(tmp_path: Path) -> None:
    refused = only_refused(write(tmp_path / "x", make_7z({"bomb": bytes(40 * 2**20)})))
    assert list(refused.values()) == ["unpacks to more than 200 times its size: the rest is not read"]


def test_archives_inside_archives_end_at_a_depth(tmp_path: Path) -> None:
    assert only_refused(write(tmp_path / "x", nested(40))) == {
        "inner.zip/inner.zip/inner.zip": "lies deeper than 3 archives inside one another"
    }


def test_an_archive_that_holds_itself_ends_at_a_depth(tmp_path: Path) -> None:
    endless = quine()
    assert zstd.decompress(endless) == endless
    assert only_refused(write(tmp_path / "x", endless)) == {"x/x/x": "lies deeper than 3 archives inside one another"}
    assert only_refused(write(tmp_path / "x", make_zip({"e.zst": endless}))) == {
        "e.zst/e/e": "lies deeper than 3 archives inside one another"
    }
    told = measured(tmp_path / "x", depth=1_000)
    assert told["found"] == 0
    assert len(told["refused"]) == 1
    assert told["seconds"] < 10


def test_a_tree_of_archives_ends_at_the_bytes_of_all(tmp_path: Path) -> None:
    # As 42.zip: 16 archives of 16 archives of a megabyte that packs well, each within the ratio.
    leaf = make_zip({"a.txt": os.urandom(5_000) + bytes(900_000)})
    level = make_zip({f"{number}.zip": leaf for number in range(16)})
    path = write(tmp_path / "x", make_zip({f"{number}.zip": level for number in range(16)}))
    found, refused = read(path, Limits(bytes=20 * 2**20))
    assert sum(map(len, found.values())) < 20 * 2**20
    assert refused == {"": "unpacks to more than 20 MiB: the rest is not read"}


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    data = zip_of(((b"%06d.txt" % number, b"") for number in range(1_000)), shared=bytes(100_000))
    assert only_refused(write(tmp_path / "x", data)) == {
        "": "has members that lie over one another, as in a bomb: it is not read"
    }


def test_a_zstandard_window_larger_than_its_own_tools_take_is_refused(tmp_path: Path) -> None:
    # One raw block in a frame whose window is 2 GiB.
    data = b"\x28\xb5\x2f\xfd" + bytes([0, (31 - 10) << 3]) + struct.pack("<I", 5 << 3 | 1)[:3] + b"hello"
    assert only_refused(write(tmp_path / "x", data)) == {"": "is damaged: the rest is not read"}


def test_an_xz_dictionary_of_4_gib_is_refused(tmp_path: Path) -> None:
    data = bytearray(lzma.compress(b"hello\n"))
    size = (data[12] + 1) * 4
    assert data[14:16] == b"\x21\x01"
    data[16] = 40
    data[12 + size - 4 : 12 + size] = struct.pack("<L", zlib.crc32(data[12 : 12 + size - 4]))
    assert "memory" in only_refused(write(tmp_path / "x", bytes(data)))[""]


def test_a_tar_header_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    info, _ = file_info("pax", kind=tarfile.XHDTYPE)
    info.size = 7 * 2**30
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        file.seek(info.size, io.SEEK_CUR)
        file.write(b"\0")
    assert only_refused(path) == {"": "is damaged: the rest is not read"}


def test_headers_upon_headers_are_refused(tmp_path: Path) -> None:
    info, _ = file_info("pax", kind=tarfile.XHDTYPE)
    path = write(tmp_path / "x", info.tobuf(tarfile.USTAR_FORMAT) * 20_000 + make_tar([file_info("a.md", b"a\n")]))
    assert list(only_refused(path).values()) == ["is damaged: the rest is not read"]


# Many members.


def measured(path: Path, **limits: int) -> dict[str, float]:
    """One reading in a process of its own: what it gave, its seconds, and the memory of it and its child in MiB."""
    code = (
        "import json, resource, sys, time; from pathlib import Path\n"
        "from cortex_pipelines.ingest.archives import Limits, Member, members\n"
        "start, found, refused = time.monotonic(), 0, []\n"
        "for told in members(Path(sys.argv[1]), Limits(**json.loads(sys.argv[2]))):\n"
        "    if isinstance(told, Member): found += 1\n"
        "    else: refused.append(told.reason)\n"
        "own = next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]\n"
        "most = [int(own) / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]\n"
        "print(json.dumps({'found': found, 'refused': refused, 'seconds': time.monotonic() - start, 'memory': most}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps(limits)], capture_output=True, check=True, timeout=280
    )
    told: dict[str, float] = json.loads(done.stdout)
    print(told)
    return told


def test_ten_million_members_that_are_only_claimed_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.seek(10_000_000 * 46)
        file.write(end_of_zip(10_000_000, 10_000_000 * 46 - 4, 4))
    told = measured(path)
    assert told["found"] == 0
    assert told["refused"] == ["is damaged: the rest is not read"]
    assert told["seconds"] < 10
    assert max(told["memory"]) < 100


@pytest.mark.heavy
@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_ten_million_members_cost_no_more_than_the_limit(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x"
    if form == "zip":
        # Every entry a folder, so that nothing overlaps: the directory alone is 500 MB.
        entry = b"PK\1\2\x14\3" + struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 0x5C22, 0, 0, 0, 2, 0) + bytes(10) + bytes(4)
        with path.open("wb") as file:
            file.write(b"PK\3\4")
            for _ in range(1_000):
                file.write((entry + b"d/") * 10_000)
            file.write(end_of_zip(10_000_000, 10_000_000 * 48, 4))
    else:
        block = file_info("d/", kind=tarfile.DIRTYPE)[0].tobuf(tarfile.USTAR_FORMAT) * 10_000
        opened = path.open("wb") if form == "tar" else __import__("gzip").open(path, "wb", compresslevel=1)
        with opened as file:
            for _ in range(1_000 if form == "tar.gz" else 50):
                file.write(block)
    told = measured(path)
    assert told["found"] == 0
    assert len(told["refused"]) == 1
    assert told["seconds"] < 60
    assert max(told["memory"]) < 150


@pytest.mark.heavy
def test_two_hundred_thousand_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x", zip_of((b"%06d/a-file-of-some-name.txt" % number, b"tiny\n") for number in range(200_000))
    )
    told = measured(path)
    assert told["found"] == 100_000
    assert told["refused"] == ["has more than 100,000 members: the rest is not read"]
    assert told["seconds"] < 90
    assert max(told["memory"]) < 200


@pytest.mark.heavy
def test_a_member_of_5_gb_in_a_small_archive_is_never_held(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "x"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("huge.txt", "w", force_zip64=True) as file:
            for block in zeros(5 * 2**30):
                file.write(block)
        archive.writestr("good.md", "good\n")
    for limits in ({}, {"ratio": 10**9, "member_bytes": 6 * 2**30}):
        told = measured(path, **limits)
        assert told["found"] == 1
        assert len(told["refused"]) == 1
        assert told["seconds"] < 60
        # The child may take 448 MiB, whatever the settings allow.
        assert max(told["memory"]) < 500


# Anything at all.


@pytest.mark.heavy
def test_ten_thousand_changed_archives_are_told_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a process for each, so that what breaks the code itself is seen.
    told: list[bytes] = []
    monkeypatch.setattr(archives, "say", told.append)
    chance = random.Random(5)
    for number in range(10_000):
        packed = bytearray(small(FORMATS[number % len(FORMATS)]))
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(packed))
            packed[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        if packed.startswith(b"7z") and len(packed) > 32:
            _mend(packed)
        archives._Walk(LIMITS, asks=False, nested=True).run(io.BytesIO(packed), "x")
    assert len(told) > 10_000


def _mend(packed: bytearray) -> None:
    """Let the checksums of a 7z be right, so that its reader sees what was changed."""
    offset, size = struct.unpack_from("<QQ", packed, 12)
    if 32 + offset + size <= len(packed):
        struct.pack_into("<I", packed, 28, zlib.crc32(packed[32 + offset : 32 + offset + size]))
        struct.pack_into("<I", packed, 8, zlib.crc32(packed[12:32]))


@cache
def small(form: str) -> bytes:
    return pack(form, {"a.md": b"# A\n" * 50, "b/c.py": bytes(range(64)), "in.zip": make_zip({"d.md": b"d"})})


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_change_of_bytes_makes_reading_fail(tmp_path: Path, form: str, changes: list[tuple[int, int]]) -> None:
    packed = bytearray(
        pack(form, {"a.md": b"# A\n" * 50, "b/c.py": os.urandom(64), "in.zip": make_zip({"d.md": b"d"})})
    )
    for place, value in changes:
        packed[place % len(packed)] = value
    path = write(tmp_path / "x", bytes(packed))
    began = time.monotonic()
    for told in members(path, LIMITS):
        name = told.path
        assert isinstance(told, Member) or told.reason
        assert name.isprintable() or not isinstance(told, Member)
        assert ".." not in name.split("/") or not isinstance(told, Member)
    assert archive_kind(path) in ("repository", "documents")
    assert time.monotonic() - began < 60
