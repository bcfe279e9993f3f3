"""What lines of a log have in common: their shape without what varies, their level, and how often each occurs."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Whatever holds a digit varies: numbers, times, addresses, identifiers, paths of runs; so does quoted text, but
# a single quoted word may be a level or a name. RE2 reads some 100 MB/s of it, Python's own patterns two thirds.
_VARYING = r"(?:[a-z_]+-|[A-Za-z_./]*)[0-9][0-9A-Za-z_./\-]*"
_QUOTED = r'"[^"]*[^"A-Za-z][^"]*"'
# What needs to look around is left to Python, which sees each different shape once.
_REST = re.compile(
    rb"(?<![\w'])'[^']*[^'A-Za-z][^']*'"
    rb"|\b(?:0x)?[0-9a-f]{8,}\b"
    rb"|\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +)?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +#"
    rb"|#(?:[:.,+\-]#)+"
)

SHAPE_BYTES = 400
SAMPLE_CHARACTERS = 300
# Logs of one program have some hundred shapes; a table of this many takes about 20 MB.
MOST_SHAPES = 20_000


class Level(IntEnum):
    """How bad a line says it is."""

    NONE = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4


_LEVELS = {
    Level.FATAL: ("FATAL", "CRITICAL", "CRIT", "ALERT", "EMERG", "EMERGENCY", "PANIC"),
    Level.ERROR: ("ERROR", "ERR", "SEVERE"),
    Level.WARNING: ("WARN", "WARNING"),
    Level.INFO: ("INFO", "INFORMATION", "NOTICE", "DEBUG", "TRACE", "VERBOSE", "FINE", "FINER", "FINEST"),
}
_BY_NAME = {name.encode(): level for level, names in _LEVELS.items() for name in names}
# The longer names first: a pattern takes the first that fits.
_NAMES = "|".join(sorted((name for names in _LEVELS.values() for name in names), key=len, reverse=True)).encode()
_BY_LETTER = {b"F": Level.FATAL, b"E": Level.ERROR, b"W": Level.WARNING}
# A level stands in front of the message: in capitals, marked as one, or as the letter of Android and glog.
_STATED_WITHIN = 160
_STATED = re.compile(
    rb"\b(" + _NAMES + rb")\b"
    rb"|(?:[\[<(|]\s*|\b(?:level|lvl|severity)[\"']?\s*[=:]\s*[\"']?|#,?\s+)((?i:" + _NAMES + rb"))\b"
    rb"|^[#\s:.\-\[\]]{3,40}([VDIWEF])[ /](?=[A-Za-z])"
)
_FATAL = re.compile(
    rb"\bpanic: |[Ss]eg(?:mentation )?fault\b|\bOut of memory\b|\bOOM-?[Kk]ill|\bcore dumped\b|\bfatal error\b"
)
_ERROR = re.compile(
    rb"^Traceback \(most recent call last\)"
    rb"|^(?:Caused by: |Exception in thread |[\w.$]*(?:Error|Exception)\b(?::|$))"
    rb"|\b[A-Z]\w*Exception\b"
)
_WORDS = re.compile(
    rb"(?i)(?<!no )(?<!without )(?<!# )"
    rb"\b(?:errors?|failed|failure|fail|exception|denied|refused|unreachable|aborted)\b"
)
# A time of day, a date in digits or seconds since 1970, where the lines of a log begin.
_TIMED = re.compile(
    r"^.{0,48}?\b\d{1,2}:\d{2}(?::\d{2})?\b|^\W{0,2}\d{6}(?:\d{2})?[ -]\d{6}\b|^\W{0,4}\d{10}(?:\d{3})?\b"
)


@dataclass(slots=True)
class Shape:
    """Lines that differ in values only: how many, where (1-based), and the first of them as it stands.

    `stated` is whether the line itself says its level, rather than words in it.
    """

    level: Level
    stated: bool
    timed: bool
    count: int
    first: int
    last: int
    sample: str


class ShapeTable:
    """Counts shapes in bounded memory: where there are too many, the rarest go, and are counted as gone."""

    def __init__(self, most: int = MOST_SHAPES) -> None:
        self.shapes: dict[bytes, Shape] = {}
        self.evicted_shapes = 0
        self.evicted_lines = 0
        self._most = most

    def add(self, first: int, lines: Sequence[bytes]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """Count lines, the first of which has the number `first`; the level of each line."""
        import numpy as np

        keys, which = _masked(lines)
        counts = np.bincount(which, minlength=len(keys))
        firsts, lasts = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
        # The last assignment to an index stands.
        firsts[which[::-1]] = np.arange(len(which))[::-1]
        lasts[which] = np.arange(len(which))
        levels = np.zeros(len(keys), np.int64)
        for index, key in enumerate(keys):
            if not key:
                continue
            shape = self.shapes.get(key)
            if shape is None:
                level, stated = level_of(key)
                sample = lines[firsts[index]].decode("utf-8", "ignore").strip()[:SAMPLE_CHARACTERS]
                shape = Shape(level, stated, _TIMED.match(sample) is not None, 0, first + int(firsts[index]), 0, sample)
                self.shapes[key] = shape
            shape.count += int(counts[index])
            shape.last = first + int(lasts[index])
            levels[index] = shape.level
        if len(self.shapes) > self._most:
            self._evict()
        return levels[which]

    def by_level(self) -> Counter[Level]:
        """How many lines have each level; those of shapes that are gone are not among them."""
        counts: Counter[Level] = Counter()
        for shape in self.shapes.values():
            counts[shape.level] += shape.count
        return counts

    def _evict(self) -> None:
        """Keep the half that matters: errors, then what is frequent, then what is recent."""
        ordered = sorted(
            self.shapes.items(),
            key=lambda item: (item[1].level >= Level.ERROR, item[1].count, item[1].last),
            reverse=True,
        )
        kept = self._most // 2
        self.evicted_shapes += len(ordered) - kept
        self.evicted_lines += sum(shape.count for _, shape in ordered[kept:])
        self.shapes = dict(ordered[:kept])


def level_of(shape: bytes) -> tuple[Level, bool]:
    """The level of a shape, and whether it is stated."""
    stated = _STATED.search(shape[:_STATED_WITHIN])
    level = Level.NONE
    if stated:
        name = stated[1] or stated[2]
        level = _BY_NAME[name.upper()] if name else _BY_LETTER.get(stated[3], Level.INFO)
    if level < Level.ERROR:
        # A trace or a crash outranks the level of the line that prints it.
        if _FATAL.search(shape):
            return Level.FATAL, True
        if _ERROR.search(shape):
            return Level.ERROR, True
    if level is Level.NONE and _WORDS.search(shape):
        return Level.ERROR, False
    return level, stated is not None


def _masked(lines: Sequence[bytes]) -> "tuple[list[bytes], np.ndarray[tuple[int], np.dtype[np.int64]]]":
    """The different shapes of lines, and the index of each line's among them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    # In JSON lines everything is quoted, the level and the message too.
    pattern = _VARYING if next(filter(None, lines), b"").startswith(b"{") else f"{_QUOTED}|{_VARYING}"
    masked = pc.replace_substring_regex(pa.array(lines, pa.binary()), pattern, b"#").dictionary_encode()
    finals: dict[bytes, int] = {}
    renamed = [
        finals.setdefault(_REST.sub(b"#", shape).strip()[:SHAPE_BYTES], len(finals))
        for shape in masked.dictionary.to_pylist()
    ]
    return list(finals), np.asarray(renamed, np.int64)[masked.indices.to_numpy()]
