"""Archives are read member by member, whatever their format, and told where they are not."""

import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from cortex_pipelines.ingest.archives import (
    HEAD_BYTES,
    Limits,
    Member,
    archive_kind,
    holds_repository,
    is_archive,
    members,
    top_folder,
)
from tests.ingest.archive_building import (
    COMPRESS,
    FORMATS,
    TIME,
    file_info,
    make_7z,
    make_tar,
    make_zip,
    pack,
    write,
    zip_of,
)

FILES = {"notes.md": b"# Notes\n", "deep/er/a.py": b"a = 1\n" * 50_000, "empty.txt": b"", "na\xefve.txt": b"\xff\0"}
LIMITS = Limits()


def read(path: Path, limits: Limits = LIMITS, **more: object) -> tuple[dict[str, bytes], dict[str, str]]:
    """The members and the refusals of an archive by path."""
    found, refused = {}, {}
    for told in members(path, limits, **more):  # type: ignore[arg-type]
        if isinstance(told, Member):
            assert told.path not in found
            found[told.path] = told.data
        else:
            assert "\n" not in told.reason
            refused[told.path] = told.reason
    return found, refused


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_its_members(tmp_path: Path, form: str) -> None:
    archive = write(tmp_path / f"x.{form}", pack(form, FILES))
    assert read(archive) == (FILES, {})


@pytest.mark.parametrize("form", FORMATS)
def test_an_archive_is_known_by_its_content_whatever_its_name(form: str) -> None:
    assert is_archive("notes.txt", pack(form, FILES)[:HEAD_BYTES])


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_the_time_of_a_member_is_told(tmp_path: Path, form: str) -> None:
    archive = write(tmp_path / "x", pack(form, {"a.md": b"a\n"}))
    assert [told.time for told in members(archive, LIMITS) if isinstance(told, Member)] == [TIME]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_usual_compression_of_a_zip_is_read(tmp_path: Path, method: int) -> None:
    assert read(write(tmp_path / "x.zip", make_zip(FILES, method))) == (FILES, {})


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_usual_kind_of_tar_is_read(tmp_path: Path, form: int) -> None:
    name = "/".join(["folder"] * 20) + "/a.md"
    archive = write(tmp_path / "x", make_tar([file_info(name, b"a\n")], form))
    assert read(archive) == ({name: b"a\n"}, {})


def test_a_tar_older_than_its_magic_is_read(tmp_path: Path) -> None:
    data = bytearray(make_tar([file_info("a.md", b"a\n")], tarfile.USTAR_FORMAT))
    data[257:265] = bytes(8)
    total = sum(data[:148]) + 8 * 32 + sum(data[156:512])
    data[148:156] = b"%06o\0 " % total
    assert read(write(tmp_path / "x", bytes(data))) == ({"a.md": b"a\n"}, {})


@pytest.mark.parametrize(
    "chain",
    [
        [{"id": 0x21, "preset": 6}],
        [{"id": 0x4000000000000001, "preset": 6}],
        [{"id": 0x04, "dist": 4}, {"id": 0x21, "preset": 1}],
        [{"id": 0x03, "dist": 2}, {"id": 0x21, "preset": 1}],
        [{"id": 0x31}],
        [{"id": 0x00}],
    ],
)
def test_the_usual_methods_of_7z_are_read(tmp_path: Path, chain: list[dict[str, int]]) -> None:
    names = {0x21: lzma.FILTER_LZMA2, 0x03: lzma.FILTER_DELTA, 0x04: lzma.FILTER_X86}
    import py7zr

    names |= {0x31: py7zr.FILTER_BZIP2, 0x00: py7zr.FILTER_COPY, 0x4000000000000001: lzma.FILTER_LZMA1}
    filters = [{**step, "id": names[step["id"]]} for step in chain]
    if "dist" in filters[0] and filters[0]["id"] == lzma.FILTER_X86:
        del filters[0]["dist"]
    assert read(write(tmp_path / "x.7z", make_7z(FILES, filters=filters))) == (FILES, {})


def test_a_method_of_7z_that_is_not_read_says_so(tmp_path: Path) -> None:
    import py7zr

    archive = write(tmp_path / "x.7z", make_7z({"a.md": b"a\n"}, filters=[{"id": py7zr.FILTER_ZSTD, "level": 3}]))
    assert read(archive) == ({}, {"a.md": "is compressed by a method that is not read"})


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_file_is_an_archive_of_that_file(tmp_path: Path, kind: str) -> None:
    archive = write(tmp_path / f"notes.md.{kind}", COMPRESS[kind](b"# Notes\n"))
    assert read(archive) == ({"notes.md": b"# Notes\n"}, {})
    assert archive_kind(archive) == "documents"


def test_archives_inside_are_read_under_their_names(tmp_path: Path) -> None:
    inner = pack("tar.gz", {"b.md": b"b\n", "deep.7z": pack("7z", {"c.md": b"c\n"})})
    archive = write(tmp_path / "x.zip", make_zip({"a.md": b"a\n", "in/inner.tgz": inner, "z.md": b"z\n"}))
    assert read(archive) == (
        {"a.md": b"a\n", "in/inner.tgz/b.md": b"b\n", "in/inner.tgz/deep.7z/c.md": b"c\n", "z.md": b"z\n"},
        {},
    )
    assert set(read(archive, nested=False)[0]) == {"a.md", "in/inner.tgz", "z.md"}


def test_a_document_that_is_a_zip_inside_stays_one(tmp_path: Path) -> None:
    word = make_zip({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>"})
    book = make_zip({"mimetype": b"application/epub+zip", "x.html": b"<p>"}, zipfile.ZIP_STORED)
    sheet = make_zip({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}, zipfile.ZIP_STORED)
    late = make_zip({"docProps/app.xml": b"<a/>", "[Content_Types].xml": b"<Types/>"})
    jar = make_zip({"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\n"})
    for data in (word, book, sheet, late, jar):
        assert not is_archive("any.bin", data[:HEAD_BYTES])
    assert not is_archive("x.docx", make_zip({"odd.xml": b"<x/>"})[:HEAD_BYTES])
    archive = write(tmp_path / "x.zip", make_zip({"a.docx": word, "b": book}))
    assert read(archive) == ({"a.docx": word, "b": book}, {})


@pytest.mark.parametrize(
    "data", [b"", b"# Notes\n", b"\0" * 4_096, b"%PDF-1.7", b"\x89PNG\r\n\x1a\n" + bytes(600), b"BZh is a word"]
)
def test_what_is_no_archive_is_none(tmp_path: Path, data: bytes) -> None:
    assert not is_archive("x.zip", data[:HEAD_BYTES])
    assert archive_kind(write(tmp_path / "x.zip", data)) == "documents"


def test_what_macos_adds_is_no_member(tmp_path: Path) -> None:
    files = {"p/Makefile": b"x\n", "p/a.c": b"x\n", "__MACOSX/p/._a.c": b"\0", "p/.DS_Store": b"\0"}
    archive = write(tmp_path / "x.zip", make_zip(files))
    assert read(archive) == ({"p/Makefile": b"x\n", "p/a.c": b"x\n"}, {})
    assert holds_repository(archive, LIMITS)


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    archive = write(
        tmp_path / "x.zip", make_zip({"a.md": b"a\n", "in.zip": make_zip({"b.md": b"b\n", "c.md": b"c\n"})})
    )
    asked: list[str] = []

    def wanted(path: str) -> bool:
        asked.append(path)
        return path == "in.zip/c.md"

    assert read(archive, wanted=wanted) == ({"in.zip/c.md": b"c\n"}, {})
    assert asked == ["a.md", "in.zip/b.md", "in.zip/c.md"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_archive_holds_nothing(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "x", pack(form, {}))
    assert read(path)[0] == {}


def test_a_zip_whose_names_are_utf_8_without_saying_so_is_read_as_that(tmp_path: Path) -> None:
    data = make_zip({"aXX.md": b"a\n"}).replace(b"aXX.md", "aé.md".encode())
    assert read(write(tmp_path / "x.zip", data)) == ({"aé.md": b"a\n"}, {})


@pytest.mark.parametrize("form", FORMATS)
def test_a_member_of_a_damaged_archive_is_refused_and_nothing_else_fails(tmp_path: Path, form: str) -> None:
    data = pack(form, {"a.bin": os.urandom(200_000), "b.bin": os.urandom(200_000)})
    for number, spoilt in enumerate((data[: len(data) // 2], data[:1_000], data[:200_000] + bytes(9) + data[200_009:])):
        found, refused = read(write(tmp_path / f"{number}", spoilt))
        if form in ("tar", "tar.zst") and number == 2:
            # There are no checksums in it.
            assert len(found) == 2
        else:
            assert refused
            assert all("damaged" in reason for reason in refused.values())


def test_a_damaged_member_of_a_zip_spoils_no_other(tmp_path: Path) -> None:
    data = bytearray(make_zip({"a.md": b"first\n", "b.md": b"second\n", "c.md": b"third\n"}, zipfile.ZIP_STORED))
    data[data.index(b"second")] ^= 1
    found, refused = read(write(tmp_path / "x.zip", bytes(data)))
    assert set(found) == {"a.md", "c.md"}
    assert refused == {"b.md": "is damaged"}


@pytest.mark.parametrize("link", [True, False])
def test_what_is_no_plain_file_raises_as_reading_it_would(tmp_path: Path, link: bool) -> None:
    if link:
        (tmp_path / "x.zip").symlink_to(write(tmp_path / "y.zip", make_zip(FILES)))
    with pytest.raises(OSError):
        list(members(tmp_path / "x.zip", LIMITS))


@pytest.mark.parametrize(
    ("limits", "paths", "refused"),
    [
        (Limits(members=2), ["a.md", "b.md"], {"": "has more than 2 members: the rest is not read"}),
        (
            Limits(member_bytes=5),
            ["a.md", "d.md"],
            {"b.md": "is larger than 5 bytes", "in.zip": "is larger than 5 bytes"},
        ),
        (Limits(bytes=9), ["a.md"], {"": "unpacks to more than 9 bytes: the rest is not read"}),
        (Limits(depth=1), ["a.md", "b.md", "d.md"], {"in.zip": "lies deeper than 1 archives inside one another"}),
        (
            Limits(name_bytes=6),
            ["a.md", "b.md", "d.md"],
            {"in.zip/c.md": "its name is longer than 6 bytes"},
        ),
    ],
)
def test_each_limit_is_told_where_it_is_hit(
    tmp_path: Path, limits: Limits, paths: list[str], refused: dict[str, str]
) -> None:
    content = {"a.md": b"aaaaa", "b.md": b"bbbbbbbbb", "in.zip": make_zip({"c.md": b"c"}), "d.md": b"d"}
    for form in ("zip", "tar", "7z"):
        if form == "tar" and limits.bytes == 9:
            # Its headers count.
            continue
        found, told = read(write(tmp_path / form, pack(form, content)), limits)
        assert told == refused or (form == "7z" and limits.members == 2 and "members" in told[""])
        assert list(found) == paths or (form == "7z" and limits.members == 2)


def test_members_inside_count_with_the_others(tmp_path: Path) -> None:
    inner = make_zip({f"{number}.md": b"x\n" for number in range(5)})
    archive = write(tmp_path / "x.zip", make_zip({"a.zip": inner, "b.zip": inner, "c.md": b"c\n"}))
    found, refused = read(archive, Limits(members=8))
    assert len(found) == 6
    assert refused == {"": "has more than 8 members, archives inside counted: the rest is not read"}


def test_a_large_member_of_a_tar_is_passed_over_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    info, _ = file_info("video.mp4")
    info.size = 5 * 2**30
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        file.seek(info.size, io.SEEK_CUR)
        file.write(make_tar([file_info("a.md", b"a\n")], tarfile.USTAR_FORMAT))
    assert read(path) == ({"a.md": b"a\n"}, {"video.mp4": "is larger than 50 MiB"})


@pytest.mark.parametrize(
    ("names", "repository"),
    [
        (["name-1.2/pyproject.toml", "name-1.2/name/a.py"], True),
        (["Makefile", "docs/a.md", "docs/b.md", "docs/c.md", "docs/d.md", "src/main.c"], True),
        (["mono/README.md", "mono/web/package.json", "mono/web/src/index.ts"], True),
        (["a.py", "b.py", "c.md"], True),
        (["x/.git/HEAD", "x/a.txt", "x/b.txt", "x/c.txt", "x/d.go"], True),
        (["r.git/HEAD", "r.git/config", "r.git/objects/ab/cd", "r.git/refs/heads/main"], True),
        (["notes.md", "plan.docx", "example.py"], False),
        (["a.md", "b.json", "c.yaml", "d.html"], False),
        (["Makefile", "thesis.tex", "thesis.bib"], False),
        (["letters/2025/a.eml"], False),
        (["script.py"], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("form", ["zip", "tar.gz", "7z"])
def test_a_source_tree_is_told_from_documents(tmp_path: Path, form: str, names: list[str], repository: bool) -> None:
    archive = write(tmp_path / "x", pack(form, dict.fromkeys(names, b"x\n")))
    assert holds_repository(archive, LIMITS) == repository
    assert archive_kind(archive) == ("repository" if repository else "documents")


@pytest.mark.parametrize(
    ("names", "top"),
    [
        (["name-1.2/pyproject.toml", "name-1.2/src/a.py"], "name-1.2/"),
        (["mono/README.rst", "mono/a/b.go"], "mono/"),
        (["package/__init__.py", "package/a.py"], ""),
        (["a/Makefile", "b/Makefile"], ""),
        (["a/Makefile", "c.py"], ""),
        ([], ""),
    ],
)
def test_the_folder_of_a_release_is_no_part_of_its_paths(names: list[str], top: str) -> None:
    assert top_folder(names) == top


def test_what_is_twice_in_an_archive_is_read_once(tmp_path: Path) -> None:
    archive = write(tmp_path / "x.zip", zip_of([(b"a.md", b"1\n"), (b"a.md", b"2\n"), (b"a.md/b.md", b"3\n")]))
    assert read(archive) == (
        {"a.md": b"1\n"},
        {
            "a.md": "is there twice: the first one is read",
            "a.md/b.md": "is a file and a folder at once: the first one is read",
        },
    )


def test_names_that_differ_only_in_case_are_told_and_kept(tmp_path: Path) -> None:
    told = "differs from another name only in case: both are read"
    archive = write(tmp_path / "x.zip", make_zip({"Read.md": b"1\n", "README.md": b"2\n", "readme.MD": b"3\n"}))
    assert read(archive) == ({"Read.md": b"1\n", "README.md": b"2\n", "readme.MD": b"3\n"}, {"readme.MD": told})


def test_a_path_may_be_told_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x.zip", make_zip({"a.py": b"a\n", "setup.py": b"s\n"}))
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("x.zip"))[0]) == 2
    assert archive_kind(Path("x.zip")) == "repository"


def test_whoever_stops_listening_ends_the_reader(tmp_path: Path) -> None:
    archive = write(tmp_path / "x.zip", make_zip({"a.md": b"a\n", "b.md": b"b\n"}))
    reading = members(archive, LIMITS)
    assert isinstance(next(reading), Member)
    reading.close()  # type: ignore[attr-defined]
