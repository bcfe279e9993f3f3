"""Near duplicates: documents that have almost all of their words in common, found by MinHash."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

# Raise it when the same text would be sketched otherwise.
VERSION = "1"
# Sixteen bands of four: a pair with a similarity of 0.8 shares a band with a probability of 0.9998, of 0.3 of 0.12
# (1 - (1 - s^rows)^bands, Leskovec et al., Mining of Massive Datasets, 3.4).
PERMUTATIONS = 64
BANDS = 16
ALIKE = 0.8
WORDS_IN_A_ROW = 3
# Short texts are alike by chance.
FEWEST_WORDS = 30
CHARACTERS = 2**20

_WORD = re.compile(r"\w+")
_ROWS = PERMUTATIONS // BANDS


def sketch(path: str, digest: str, text: str) -> Row | None:
    """The row of a text in the table `sketches`; None for one that is too short to be compared."""
    words = _WORD.findall(text[:CHARACTERS].lower())
    if len(words) < FEWEST_WORDS:
        return None
    from rensa import RMinHash

    minhash = RMinHash(num_perm=PERMUTATIONS, seed=1)
    minhash.update(list(map(" ".join, zip(*(words[at:] for at in range(WORDS_IN_A_ROW)), strict=False))))
    signature = [int(value) for value in minhash.digest()]
    return {
        "path": path,
        "digest": digest,
        "version": VERSION,
        "near": "",
        "bands": [_band(number, signature) for number in range(BANDS)],
        "signature": signature,
    }


def grouped(fresh: Sequence[Row], known: "pa.Table", read: Any) -> list[Row]:
    """The sketches to write, so that documents which are alike have the same `near`.

    `known` holds `path` and `bands` of what is stored, and `read` gives whole rows of it by their paths. The name of a
    group is the digest of a document that was in it first.
    """
    candidates = read(_sharing(fresh, known))
    by_band: dict[int, list[Row]] = defaultdict(list)
    for row in candidates:
        for band in row["bands"]:
            by_band[band].append(row)
    written: dict[str, Row] = {}
    for row in fresh:
        found = {other["path"]: other for band in row["bands"] for other in by_band[band]}
        best = max(found.values(), key=lambda other: (_similarity(row, other), other["path"]), default=None)
        if best is not None and _similarity(row, best) >= ALIKE:
            best["near"] = row["near"] = best["near"] or best["digest"]
            written[best["path"]] = best
        written[row["path"]] = row
        for band in row["bands"]:
            by_band[band].append(row)
    return list(written.values())


def fold(labels: Mapping[str, str], sources: Sequence[str]) -> dict[str, str]:
    """Each source that is nearly the same as one before it in the list, and that one; `labels` gives `near` by path."""
    first: dict[str, str] = {}
    folded = {}
    for source in dict.fromkeys(sources):
        if near := labels.get(source):
            if near in first:
                folded[source] = first[near]
            else:
                first[near] = source
    return folded


def _band(number: int, signature: Sequence[int]) -> int:
    """One number for the values of a band, and for the band itself; as wide as a column of integers."""
    value = number + 1
    for item in signature[number * _ROWS : (number + 1) * _ROWS]:
        value = (value * 0x9E3779B97F4A7C15 + item) & 0x7FFFFFFFFFFFFFFF
    return value


def _similarity(one: Row, other: Row) -> float:
    pairs = zip(one["signature"], other["signature"], strict=True)
    return sum(1 for value, same in pairs if value == same) / PERMUTATIONS


def _sharing(fresh: Sequence[Row], known: "pa.Table") -> list[str]:
    """The paths of what is stored and shares a band with something fresh."""
    import numpy as np

    if not fresh or not known.num_rows:
        return []
    wanted = np.unique(np.array([band for row in fresh for band in row["bands"]], np.int64))
    bands = known["bands"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, BANDS)
    rows = np.flatnonzero(np.isin(bands, wanted).any(axis=1))
    paths: list[str] = known["path"].take(rows).to_pylist()
    mine = {row["path"] for row in fresh}
    return [path for path in paths if path not in mine]
