"""A source tree that was dropped as an archive, made a bare repository of our own, so that it is read as any other."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cortex_pipelines.ingest.archives import LINK, Limits, Refused, first_names, is_bare, members, top_folder
from cortex_pipelines.ingest.git import (
    CLONE_SECONDS,
    READ_SECONDS,
    UNFINISHED,
    GitRepository,
    RepositoryError,
    git_environment,
    git_output,
    make_room,
    run_git,
)
from cortex_pipelines.ingest.scan import file_digest

# A listing of every refusal of a hostile archive would be longer than what is read of it.
MOST_REFUSED = 1_000

_TOLD = "told.json"


def open_archive(archive: Path, digest: str, clones: Path, limits: Limits) -> GitRepository:
    """The files of an archive as one commit, made under `clones` once per content; archives inside are files.

    Nothing is unpacked: the members are streamed into git's own store of objects. A folder that holds the whole project
    (`name-1.2/`) is left out of the paths. Links are listed, without where they lead. `digest` is the BLAKE2b-128 of
    the content that is wanted; `RepositoryError` when the file holds something else, or no file that is read.
    """
    clones = clones.absolute()
    clone = clones / f"{digest}.git"
    if clone.is_dir():
        told = _told(clone)
        if not told["refused"] or told["limits"] == asdict(limits):
            return GitRepository(clone)
        # Other limits may let in what was refused.
        shutil.rmtree(clone)
    make_room(clones, archive)
    try:
        if is_bare(first_names(archive, limits)):
            raise RepositoryError("it holds a bare git repository: unpack it, or drop a bundle (git bundle create)")
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=clones) as fresh:
            folder = Path(fresh) / "clone"
            refused = _fill(archive, folder, limits)
            if file_digest(archive) != digest:
                raise RepositoryError("it changed while it was read")
            told = {"limits": asdict(limits), "refused": [asdict(row) for row in refused]}
            (folder / _TOLD).write_text(json.dumps(told))
            with suppress(OSError):  # Another run read the same content first.
                folder.rename(clone)
    except OSError as error:
        raise RepositoryError(f"it cannot be read: {error.strerror or error}") from None
    return GitRepository(clone)


def refused_of(repository: GitRepository) -> list[Refused]:
    """What was not taken from the archive that a repository was made of."""
    return [Refused(**row) for row in _told(repository.git_dir)["refused"]]


def _told(clone: Path) -> dict[str, Any]:
    return json.loads((clone / _TOLD).read_text())  # type: ignore[no-any-return]


def _fill(archive: Path, folder: Path, limits: Limits) -> list[Refused]:
    """Make a repository of an archive's files; what was refused."""
    folder.mkdir()
    environment = git_environment(GIT_DIR=str(folder))
    git_output(["init", "--bare", "--quiet", "--template="], environment, READ_SECONDS)
    # What is packed is read once and thrown away when the archive changes: it is packed fast, and in one file.
    options = ["-c", "core.compression=1", "-c", "fastimport.unpackLimit=0", "-c", "pack.depth=0"]
    arguments = [*options, "fast-import", "--quiet", "--done", "--depth=0", "--date-format=raw"]
    names: list[str] = []
    links: list[str] = []
    refused: list[Refused] = []
    latest = 0
    with run_git(arguments, environment, CLONE_SECONDS, None) as git:
        send = git.process.stdin
        assert send is not None
        try:
            for told in members(archive, limits, nested=False):
                if isinstance(told, Refused):
                    links += [told.path] if told.reason == LINK else []
                    refused += [told] if told.reason != LINK else []
                    continue
                names.append(told.path)
                latest = max(latest, told.time)
                send.write(b"blob\nmark :%d\ndata %d\n" % (len(names), len(told.data)))
                send.write(told.data)
                send.write(b"\n")
            if not names:
                why = f": {refused[0].path or 'it'} {refused[0].reason}" if refused else ""
                raise RepositoryError(f"it holds no file that can be read{why}")
            top = top_folder([*names, *links])
            for line in _commit(names, links, top, latest):
                send.write(line)
            send.close()
        except BrokenPipeError:
            raise RepositoryError(git.fault or "git failed and said nothing") from None
        if git.process.wait() != 0:
            raise RepositoryError(git.fault or "git failed and said nothing")
    commit = git_output(["rev-parse", "--verify", "--quiet", _REF], environment, READ_SECONDS)
    # No branch: an archive has none.
    (folder / "HEAD").write_bytes(commit)
    return _shortened([Refused(row.path.removeprefix(top), row.reason) for row in refused])


_REF = "refs/cortex/archive"


def _commit(names: list[str], links: list[str], top: str, time: int) -> Iterator[bytes]:
    """The commit, as `git fast-import` reads it. Names have passed: no control character or backslash is in them."""
    yield b"commit %s\ncommitter Cortex <cortex@localhost> %d +0000\ndata 0\n" % (_REF.encode(), time)
    # A link that is also a folder or a file gives way to it.
    for name in links:
        yield b"M 120000 inline %s\ndata 0\n\n" % _quoted(name.removeprefix(top))
    for mark, name in enumerate(names, 1):
        yield b"M 100644 :%d %s\n" % (mark, _quoted(name.removeprefix(top)))
    yield b"\ndone\n"


def _quoted(name: str) -> bytes:
    return b'"%s"' % name.replace('"', '\\"').encode()


def _shortened(refused: list[Refused]) -> list[Refused]:
    more = len(refused) - MOST_REFUSED
    if more <= 0:
        return refused
    # What is said of the whole archive comes last.
    whole = [row for row in refused[MOST_REFUSED:] if not row.path]
    return [*refused[:MOST_REFUSED], *whole, Refused("", f"{more:,} more of its members are not read")]
