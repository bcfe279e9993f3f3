"""A glance at a project's folder: what differs from what the last run saw, and whether it still grows."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cortex_pipelines.ingest.manifest import Manifest
from cortex_pipelines.ingest.scan import QUIET_SECONDS, stamps

# The stamp of a path that is no longer there.
GONE = "gone"


@dataclass(frozen=True)
class Glance:
    """What is quiet and differs from what the last run saw: paths by kind, and the size of the largest file, in bytes.

    `growing` are paths that were still being written, which a later glance will look at again.
    """

    files: tuple[str, ...]
    repositories: tuple[str, ...]
    largest: int
    growing: tuple[str, ...]
    fingerprint: str


def glance(project_folder: Path, manifest: Manifest, now: float) -> Glance:
    """Compare a folder with what the last run saw; `now` is in seconds since the epoch.

    What came, changed or went counts once it has looked the same for `QUIET_SECONDS`. Only that is remembered, in the
    manifest, so that nothing is lost between two glances, whoever takes them.
    """
    seen = {found.path: found for found in stamps(project_folder)}
    scanned, before = manifest.scanned(), manifest.glanced()
    differing = {path: found.stamp for path, found in seen.items() if not found.same(scanned.get(path))}
    differing |= dict.fromkeys(scanned.keys() - seen.keys(), GONE)
    since = {
        path: before[path][1] if path in before and before[path][0] == stamp else now
        for path, stamp in differing.items()
    }
    remembered = {path: (stamp, since[path]) for path, stamp in differing.items()}
    changed = {path: row for path, row in remembered.items() if before.get(path) != row}
    forgotten = before.keys() - remembered.keys()
    if changed or forgotten:
        manifest.replace_glanced(changed, forgotten)
    quiet = sorted(path for path in differing if now - since[path] >= QUIET_SECONDS)
    kinds = {path: seen[path].kind if path in seen else scanned[path].kind for path in quiet}
    digest = hashlib.blake2b(digest_size=16)
    for path in quiet:
        digest.update(f"{path}\0{differing[path]}\0".encode("utf-8", "surrogateescape"))
    return Glance(
        tuple(path for path in quiet if kinds[path] != "repository"),
        tuple(path for path in quiet if kinds[path] == "repository"),
        max((seen[path].size for path in quiet if path in seen and kinds[path] != "repository"), default=0),
        tuple(sorted(differing.keys() - set(quiet))),
        digest.hexdigest(),
    )
