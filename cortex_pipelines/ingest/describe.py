"""What a document is, without a model: its language, its topics, and a summary in its own sentences."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cortex_pipelines.ingest.parsing import Heading
from cortex_pipelines.ingest.prose import WORD, function_words, language_of, sentences

# What is read of a text: its beginning, and pieces at even distances. So the largest takes no longer than some pages.
HEAD_CHARACTERS = 2_500
PIECES = 4
PIECE_CHARACTERS = 400
TOPICS = 8
SUMMARY_SENTENCES = 3
SENTENCE_CHARACTERS = (24, 300)
# A phrase is told once more for each time it is in a heading or the title.
HEADING_WEIGHT = 3
PHRASE_WORDS = 3
# Of the headings the first, and their beginnings: hostile files have more.
HEADINGS = 60
HEADING_CHARACTERS = 200
FIELDS_NAMED = 12
# Lines by which a text is taken for code, settings, a log or a table.
SNIFFED_LINES = 80
CODE_SHARE = 0.3
LINE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Description:
    """`language` is ISO 639-1, empty where it cannot be told or there is no prose.

    Each sentence of the summary is one of the text's, its white space aside; of data it is a list of fields.
    """

    language: str
    topics: tuple[str, ...]
    summary: str


def describe(text: str, title: str = "", headings: Sequence[Heading] = ()) -> Description:
    """Describe a document; the same text is always described alike."""
    sample = sampled(text)
    # What has headings was written to be read, however much code is in it.
    kind = "prose" if headings else _kind(sample)
    if kind == "log":
        return Description("", (), "")
    if kind == "data":
        return _of_data(_json_keys(sample))
    if kind == "settings":
        return _of_data([match[1] or match[2] for match in _SETTING.finditer(sample)])
    if kind == "table":
        return _of_data(_columns(sample))
    if kind == "code":
        return replace(_of_prose([_first_comment(sample)], ()), language="")
    named = [heading.text[:HEADING_CHARACTERS].strip() for heading in headings[:HEADINGS]]
    paragraphs = _paragraphs(sample, set(named))
    if not any(paragraphs):
        return _of_data(_columns(sample))
    return _of_prose(paragraphs, [title[:HEADING_CHARACTERS], *named])


def _of_data(names: Sequence[str]) -> Description:
    """Of data: the names of its fields, the most frequent first."""
    ranked = [name for name, _ in Counter(name.strip() for name in names if name.strip()).most_common(FIELDS_NAMED)]
    return Description("", tuple(ranked[:TOPICS]), f"Fields: {', '.join(ranked)}" if ranked else "")


def _of_prose(paragraphs: Sequence[str], headings: Sequence[str]) -> Description:
    language = language_of("\n".join(paragraphs))
    words = Words(language)
    words.add("\n\n".join(paragraphs))
    for heading in dict.fromkeys(headings):
        words.add(heading, HEADING_WEIGHT)
    return Description(language, words.topics(), _summary(paragraphs, language, words))


def sampled(text: str) -> str:
    """The beginning of a text and pieces of its rest, each from a line's start to a line's end where it has lines."""
    if len(text) <= HEAD_CHARACTERS + PIECES * PIECE_CHARACTERS:
        return text
    pieces = [_whole_lines(text, 0, HEAD_CHARACTERS)]
    step = (len(text) - HEAD_CHARACTERS) // PIECES
    for start in range(HEAD_CHARACTERS, len(text) - step + 1, step):
        pieces.append(_whole_lines(text, start, start + PIECE_CHARACTERS))
    return "\n\n".join(pieces)


def _whole_lines(text: str, start: int, end: int) -> str:
    first = 0 if start == 0 else text.find("\n", start, end) + 1
    last = text.rfind("\n", start, end)
    return text[first or start : last if last > first else end]


# --- What kind of text it is

_JSON = re.compile(r"\s*[\[{]\s*(?:[\"{\[\]}]|-?\d|true\b|false\b|null\b)")
_JSON_KEY = re.compile(r"\"([^\"\\\n]{1,40})\"\s{0,4}:")
# Keys with a colon are not capitalized, or a chat would be settings.
_SETTING = re.compile(
    r"(?m)^[ \t]{0,24}(?:- )?(?:([A-Za-z_][\w.-]{0,40})[ \t]{0,8}=|([a-z_][\w.-]{0,40}):(?=[ \t]|$))(?!.{60})"
)
_LOGGED = re.compile(
    r"[\[(<]?(?:\d{4}[-/.]\d\d[-/.]\d\d|\d\d[-/.]\d\d[-/.]\d\d|\d\d:\d\d:\d\d|"
    r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d|\d{9,13}\b)"
    r"|[\[(<]?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b[\])>]?[ :]"
)
# Said by people: a chat is no log.
_SAID = re.compile(r"[^\n]{0,40}\d\d:\d\d(?::\d\d)?[\])]?[^\n]{0,4}\s[^\W\d_][\w .'-]{0,39}:\s")
_CODE = re.compile(
    r"\s*(?:import |from \S+ import |package |using |#include|#!|#define|def |class |fn |func |pub |use |let |const |"
    r"var |return\b|if ?\(|for ?\(|while ?\(|else\b|elif |try:|except|@\w|public |private |static |void |module |end\b|"
    r"require|SELECT |INSERT |CREATE |[}\])]+[;,)]*\s*$)"
    r"|[^\n]*(?:[;{}]|\):|\) \{|=> \{|\)|,)\s*$|\s*[\w.\[\]\"']+ [-+*/|:]?= \S"
)
_DELIMITERS = ("\t", ";", ",", "|", ":")


def _kind(sample: str) -> str:
    if _JSON.match(sample) and _JSON_KEY.search(sample):
        return "data"
    lines = [line for line in islice(sample.split("\n"), 4 * SNIFFED_LINES) if line.strip()][:SNIFFED_LINES]
    if not lines:
        return "prose"
    if sum(_LOGGED.match(line) is not None and not _SAID.match(line) for line in lines) >= LINE_SHARE * len(lines):
        return "log"
    # Sentences end with full stops, code and settings hardly ever do.
    prose = sum(line.rstrip().endswith((".", "\u3002", "!", "?")) for line in lines)
    if len(lines) >= 2 and sum(_SETTING.match(line) is not None for line in lines) - prose >= LINE_SHARE * len(lines):
        return "settings"
    if len(lines) >= 3 and _delimiter(lines):
        return "table"
    if sum(_CODE.match(line) is not None for line in lines) - prose >= CODE_SHARE * len(lines):
        return "code"
    return "prose"


def _delimiter(lines: Sequence[str]) -> str:
    """What the fields of lines are told apart by, where nearly all have as many as the first."""
    first = lines[0]
    for delimiter in _DELIMITERS:
        count = first.count(delimiter)
        alike = sum(line.count(delimiter) == count for line in lines)
        if (
            count >= (2 if delimiter == ":" else 1)
            and not first.startswith("|")
            and alike >= 0.9 * len(lines)
            and not first.endswith((".", ":", delimiter))
        ):
            return delimiter
    return ""


def _json_keys(sample: str) -> list[str]:
    return [match[1] for match in _JSON_KEY.finditer(sample)]


def _columns(sample: str) -> list[str]:
    """The header of a table: of delimited lines, or of the first table in Markdown."""
    lines = [line.strip() for line in sample.split("\n", 4 * SNIFFED_LINES) if line.strip()][:SNIFFED_LINES]
    tables = [line for line in lines if line.startswith("|")]
    header, delimiter = (tables[0], "|") if tables else (lines[0] if lines else "", _delimiter(lines) if lines else "")
    if not delimiter:
        return []
    names = [name.strip(" \"'*") for name in header.strip("|").split(delimiter)]
    named = all(name and len(name) <= 60 and not name.replace(".", "").isdecimal() for name in names)
    return names if named else []


_COMMENT = re.compile(
    r"[rRuU]?(?:\"\"\"(.{,2000}?)\"\"\"|'''(.{,2000}?)''')|/\*[*!]?(.{,2000}?)\*/"
    r"|((?:^[ \t]*(?://[/!]?|#|--|;|%)[^\n]*\n?)+)|<!--(.{,2000}?)-->",
    re.DOTALL | re.MULTILINE,
)
_MARKS = re.compile(r"(?m)^[ \t]*(?://[/!]?|#+!?|--|\*|;+|%+)?[ \t]?")


def _first_comment(sample: str) -> str:
    """What a source file says of itself: its first comment that is no licence."""
    for match in islice(_COMMENT.finditer(sample[:HEAD_CHARACTERS]), 8):
        comment = _MARKS.sub("", next(group for group in match.groups() if group is not None)).strip()
        paragraphs = [part for part in comment.split("\n\n") if _is_prose(" ".join(part.split()))]
        if paragraphs and not _is_boilerplate(comment):
            return paragraphs[0]
    return ""


# --- Prose: what of a text is sentences

_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_SKIPPED = re.compile(
    r"\s{0,3}(?:#{1,6}\s|[|+]|=+\s*$|-{3,}\s*$|\*{3,}\s*$|\.\. |:[\w ]+:|<[/!a-zA-Z]|\[!\[|!\[|\[[^\]]*\]:|\\[a-z]+"
    r"|[%@&]|>>>|\$ )|(?: {4,}|\t)|[^\n]*\t[^\n]*\t|[^\n]* \| [^\n]* \| |.{0,6}$"
)
_ITEM = re.compile(r"\s{0,8}(?:[-*+\u2022]|\d{1,3}[.)]|[a-z]\))\s+")
_QUOTED = re.compile(r"\s{0,3}>\s?")
# What is in any document and about none, in lower case.
_BOILERPLATE = (
    *(
        "copyright",
        "\u00a9",
        "all rights reserved",
        "licensed under",
        "licenced under",
        "spdx-license",
        "hereby granted",
    ),
    *(
        "use cookies",
        "uses cookies",
        "accept cookies",
        "cookie policy",
        "privacy policy",
        "terms of use",
        "terms of service",
    ),
    *("skip to content", "skip to main content", "table of contents", "unsubscribe", "toggle navigation"),
    *("generated by", "do not edit", "-*- coding", "-*- mode"),
)
_SYMBOLS = re.compile(r"[{}<>=;\\|\[\]()/#$*_~^`@]")
_SPACE = re.compile(r"\s+")


def _paragraphs(sample: str, headings: set[str]) -> list[str]:
    """The paragraphs and the items of lists that are prose; what was cut out between is where one ends."""
    found: list[str] = []
    lines: list[str] = []
    fenced = False
    for line in _after_front_matter(sample).split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and not _skipped(line, bool(lines)) and line.strip() not in headings:
            line = line[match.end() :] if (match := _QUOTED.match(line)) else line
            if match := _ITEM.match(line):
                found.append("\n".join(lines))
                lines = [line[match.end() :]]
            else:
                lines.append(line)
            continue
        found.append("\n".join(lines))
        lines = []
    found.append("\n".join(lines))
    return [part for part in found if part and _is_prose(part) and not _is_boilerplate(part)]


def _skipped(line: str, within: bool) -> bool:
    # What goes on from an item's first line is indented as code is.
    return not line or (_SKIPPED.match(line) is not None and not (within and line.startswith("  ") and line.strip()))


def _after_front_matter(sample: str) -> str:
    if not sample.startswith(("---\n", "+++\n")):
        return sample
    end = sample.find(f"\n{sample[:3]}\n", 3)
    return sample[end + 5 :] if end >= 0 else sample


def _is_boilerplate(text: str) -> bool:
    start = text[: SENTENCE_CHARACTERS[1]].lower()
    return any(phrase in start for phrase in _BOILERPLATE)


def _is_prose(text: str) -> bool:
    if len(text) < SENTENCE_CHARACTERS[0] // (1 if text.isascii() else 2):
        return False
    # Links, emphasis and code are written with signs, but no sentence consists of them.
    return len(_SYMBOLS.findall(text)) <= 0.1 * len(text) and (text.count(" ") >= 3 or not text.isascii())


# --- Topics and summary

_CJK_RUN = re.compile("[\u4e00-\u9fff]{2,6}|[\u30a1-\u30fa\u30fc]{3,}|[A-Za-z]{3,}")
# Words and what parts phrases; a link's address and code in a line are no words of the text.
_NO_WORDS = re.compile(r"\]\([^)\s]{0,300}\)|https?://\S+|`[^`\n]*`")
_TOKEN = re.compile(r"[^\W\d_](?:[\w+#]|['\u2019.-](?=\w))*|[^\w\s]|\n\n|\d+")
# Frequent in documents whatever they are about.
_VAGUE_WORDS = (
    "use uses used using user example examples following new one two first second way ways thing things note "
    "notes see make makes made get set need needs want time times part parts case cases number different "
    "various several possible available including include includes based like well please however therefore "
    "default current version chapter section page figure table e.g i.e etc today yesterday always never often "
    "usually still even much many every another good better best able let let's it's don't doesn't can't isn't "
    "that's there's you're we're won't"
)
_VAGUE = frozenset(_VAGUE_WORDS.split())
_PLURALS = ("en", "fr", "es", "pt", "ca")
# What a sentence may end with, and what Markdown puts before its first word.
_LAST = '.!\u2026\u3002\uff01\u0964\u06d4")\u201d\u00bb\u300d*_'
_MARKUP = "*_`\"'([\u201c\u201e\u00ab\u300c\u00bf\u00a1"
_UNSPACED = ("zh", "ja", "th", "lo", "km", "my")


class Words:
    """The telling words of texts in a language and the phrases of them, by how often they come."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._dropped = function_words(language) | _VAGUE
        self._keys: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._phrases: Counter[tuple[str, ...]] = Counter()
        self._shown: dict[str, str] = {}

    def add(self, text: str, weight: int = 1) -> None:
        """Count the words of a text, and of their runs those that come back."""
        runs = list(self._runs(text))
        for run in runs:
            for key in run:
                self._counts[key] += weight
        for run in runs:
            # A phrase that comes back has only words that do.
            for at, key in enumerate(run):
                length = 1
                while length < PHRASE_WORDS and at + length < len(run) and self._counts[key] > 1:
                    key = run[at + length]
                    length += 1
                    if self._counts[key] > 1:
                        self._phrases[tuple(run[at : at + length])] += weight

    def topics(self) -> tuple[str, ...]:
        """What comes back most: a phrase says more than its words."""
        worth: dict[tuple[str, ...], float] = {(key,): count for key, count in self._counts.items() if count > 1}
        for phrase, count in self._phrases.items():
            if count > 1:
                worth[phrase] = count * (1 + 0.7 * (len(phrase) - 1))
        chosen: list[tuple[str, ...]] = []
        for phrase in sorted(worth, key=lambda phrase: (-worth[phrase], phrase))[: 6 * TOPICS]:
            told = set(phrase)
            # Not what is told already, as a part or as a whole.
            if not any(told <= set(other) or told >= set(other) for other in chosen):
                chosen.append(phrase)
        return tuple(" ".join(self._shown[key] for key in phrase) for phrase in chosen[:TOPICS])

    def score(self, sentence: str) -> float:
        """How much of what comes back is in a sentence; neither the longest nor the shortest has most."""
        words = {self.key(word) for word in self.words(sentence)}
        return sum(self._counts[key] for key in words if key) / math.sqrt(len(words) + 4)

    def _runs(self, text: str) -> Iterator[list[str]]:
        if self.language in _UNSPACED:
            yield from ([self.key(word)] for word in self.words(text))
            return
        run: list[str] = []
        known = self._keys
        for word in _TOKEN.findall(_NO_WORDS.sub(" . ", text)):
            # Looked up here first: this is where the time goes.
            key = known[word] if word in known else self.key(word)
            if key:
                run.append(key)
            elif run:
                yield run
                run = []
        if run:
            yield run

    def words(self, text: str) -> list[str]:
        return _CJK_RUN.findall(text) if self.language in _UNSPACED else WORD.findall(text)

    def key(self, word: str) -> str:
        """What forms of a word have in common; empty where it tells nothing."""
        key = self._keys.get(word)
        if key is None:
            key = word.lower().removesuffix("'s").removesuffix("\u2019s")
            if (len(key) < 3 and word.isascii()) or key in self._dropped or not key[0].isalpha():
                key = ""
            elif self.language in _PLURALS and len(key) > 3 and key[-1] == "s" and key[-2] not in "sui":
                key = key[:-1]
            self._keys[word] = key
            self._shown.setdefault(key, word)
        return key


def _summary(paragraphs: Sequence[str], language: str, words: Words) -> str:
    """The first sentence, and those that tell most of what comes back, in the text's order."""
    least, most = SENTENCE_CHARACTERS
    told = []
    for paragraph in paragraphs:
        for start, end in sentences(paragraph, language):
            sentence = _SPACE.sub(" ", paragraph[start:end])
            if least // (1 if sentence.isascii() else 2) <= len(sentence) <= most and _whole(sentence):
                told.append(sentence)
    told = list(dict.fromkeys(told))
    if not told:
        return ""
    scores = [words.score(sentence) for sentence in told]
    # What stands further on is less about the whole.
    best = sorted(range(1, len(told)), key=lambda at: (-scores[at] / (1 + at / 20), at))
    kept = sorted([0, *best[: SUMMARY_SENTENCES - 1]])
    # Where a sentence ends as in Chinese, no space follows.
    return "".join(told[at] + (" " if told[at][-1] < "\u3000" else "") for at in kept).rstrip()


def _whole(sentence: str) -> bool:
    """Begun and ended as a sentence, and no question."""
    first = sentence.lstrip(_MARKUP)[:1]
    return sentence[-1] in _LAST and first.isalnum() and not first.islower()
