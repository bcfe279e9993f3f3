"""Real repositories for tests, built by real git that knows nothing of the machine's configuration."""

import os
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05+00:00",
    "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+00:00",
}


def git(folder: Path, *arguments: str, given: bytes = b"", check: bool = True) -> str:
    """What git prints, run in a folder."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=ENVIRONMENT, input=given, capture_output=True, check=False, timeout=60
    )
    assert not check or done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace").strip()


def make_repository(folder: Path, files: Mapping[str, str | bytes], *options: str) -> Path:
    """A work tree with one commit that holds `files`, on branch main; `options` are those of git init."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main", *options)
    if files:
        commit_files(folder, files)
    return folder


def commit_files(folder: Path, files: Mapping[str, str | bytes | None], message: str = "Change") -> str:
    """Write files (None: remove) and commit them; the id of the commit."""
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def write_object(folder: Path, kind: str, content: bytes) -> str:
    """Store an object of any content, which git itself may refuse to make; its id."""
    return git(folder, "hash-object", "-t", kind, "-w", "--literally", "--stdin", given=content)


def tree(*entries: tuple[str, bytes, str]) -> bytes:
    """The content of a tree object from (mode, name, id)."""
    return b"".join(f"{mode} ".encode() + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)


def commit_tree(folder: Path, content: bytes) -> str:
    """Commit a tree given by its content on branch main, unasked; the id of the commit."""
    oid = write_object(folder, "tree", content)
    commit = f"tree {oid}\nauthor A <a@b> 1767323045 +0000\ncommitter A <a@b> 1767323045 +0000\n\nPlanted\n"
    made = write_object(folder, "commit", commit.encode())
    reference = folder / ".git" / "refs" / "heads" / "main"
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(f"{made}\n")
    return made


def object_file(folder: Path, oid: str) -> Path:
    """Where a loose object lies."""
    return folder / ".git" / "objects" / oid[:2] / oid[2:]


def overwrite_object(folder: Path, oid: str, content: bytes) -> None:
    """Let a loose object be these raw bytes."""
    path = object_file(folder, oid)
    path.chmod(0o644)
    path.write_bytes(content)


def loose(kind: str, content: bytes) -> bytes:
    """The raw bytes of a loose object."""
    return zlib.compress(f"{kind} {len(content)}\0".encode() + content)


def plant(folder: Path, traps: Path) -> None:
    """Set every trap we know of in a repository with a commit; one that runs leaves `<name>.ran` in `traps`."""
    traps.mkdir(parents=True, exist_ok=True)

    def trap(name: str) -> str:
        script = traps / name
        script.write_text(f'#!/bin/sh\ntouch "{traps}/{name}.ran"\n')
        script.chmod(0o755)
        return str(script)

    head = git(folder, "rev-parse", "HEAD")
    signed = git(folder, "cat-file", "commit", head).split("\n\n", 1)
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"
    oid = write_object(folder, "commit", f"{signed[0]}\n{signature}\n\n{signed[1]}\n".encode())
    git(folder, "update-ref", "refs/heads/main", oid)
    (folder / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "attributes").write_text("* filter=evil diff=evil merge=evil\n")
    (folder / ".gitmodules").write_text(
        f'[submodule "m"]\npath = m\nurl = ext::{trap("module")}\nupdate = !{trap("up")}\n'
    )
    for hook in ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman"):
        trap(hook)
        (folder / ".git" / "hooks").mkdir(exist_ok=True)
        (folder / ".git" / "hooks" / hook).symlink_to(traps / hook)
    included = folder / ".git" / "included"
    included.write_text(f"[core]\nfsmonitor = {trap('included-fsmonitor')}\n")
    aliases = "".join(f"{name} = !{trap('alias')}\n" for name in ("ls-tree", "cat-file", "rev-list", "rev-parse"))
    (folder / ".git" / "config").write_text(
        "[core]\nrepositoryformatversion = 1\nbare = false\n"
        f"sshCommand = {trap('ssh')}\npager = {trap('pager')}\neditor = {trap('editor')}\ngitProxy = {trap('proxy')}\n"
        f"alternateRefsCommand = {trap('alternate-refs')}\nattributesFile = {folder}/.gitattributes\n"
        f"hooksPath = {traps}\nexcludesFile = ~/.ignore\nworktree = {folder}\naskPass = {trap('askpass')}\n"
        f"[include]\npath = included\n[core]\nfsmonitor = {trap('fsmonitor')}\n"
        f'[filter "evil"]\nclean = {trap("clean")}\nsmudge = {trap("smudge")}\nrequired = true\n'
        f'[diff "evil"]\ntextconv = {trap("textconv")}\ncommand = {trap("diff-command")}\n'
        f'[diff]\nexternal = {trap("diff-external")}\n[merge "evil"]\ndriver = {trap("merge")}\n'
        f"[log]\nshowSignature = true\n[gpg]\nprogram = {trap('gpg')}\n[pager]\nlog = {trap('pager')}\n"
        f"[alias]\n{aliases}[credential]\nhelper = !{trap('credential')}\n[protocol]\nallow = always\n"
        f"[uploadpack]\npackObjectsHook = {trap('pack-objects')}\n[trace2]\neventTarget = {traps}/trace2.ran\n"
        "[extensions]\npartialClone = origin\n"
        f'[remote "origin"]\nurl = {folder}\nuploadpack = {trap("uploadpack")}\npromisor = true\n'
        f'[remote "second"]\nurl = ext::{trap("ext")}\npromisor = true\n'
        f'[remote "third"]\nurl = ssh://127.0.0.1/x\npromisor = true\n'
    )


def ran(traps: Path) -> set[str]:
    """The traps that ran."""
    return {path.stem for path in traps.glob("*.ran")}
