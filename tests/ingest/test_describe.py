"""Languages, topics and summaries of made documents of every kind; sentences; time; nothing that is not there."""

# ruff: noqa: E501, RUF001

import gettext
import json
import time
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.ingest.describe import SUMMARY_SENTENCES, Description, describe
from cortex_pipelines.ingest.parsing import Heading
from cortex_pipelines.ingest.prose import function_words, language_of, sentences

REPORT = """---
status: draft
---
# Cold chain of vaccines

[![build](https://img.shields.io/x.svg)](https://ci)

- [Home](/) | [Docs](/docs) | [Blog](/blog)

The cold chain keeps vaccines between two and eight degrees from the factory to the clinic. Dr. Maier found in 2019
that one box in five was too warm for more than an hour. Is that acceptable?

## Data loggers

```python
logger = Logger(interval=60)
```

| site | boxes |
|------|-------|
| Graz | 12    |

Every box carries a data logger, which writes the temperature each minute. A data logger costs 40 euros, e.g. from
Testo. The temperature of the box is what the data logger reports, and the clinic refuses boxes that were too warm.

Copyright 2024 The Clinic. All rights reserved.
"""
HEADINGS = (Heading(1, "Cold chain of vaccines", 4), Heading(2, "Data loggers", 13))

# The same announcement, as people would write it.
LETTERS = {
    "en": "The meeting has been moved to Thursday because the room was not free. Please tell all of your colleagues about it.",
    "de": "Die Besprechung wurde auf Donnerstag verschoben, weil der Raum nicht frei war. Bitte sagen Sie es allen Kollegen.",
    "fr": "La réunion a été reportée à jeudi parce que la salle n'était pas libre. Merci de le dire à tous vos collègues.",
    "es": "La reunión se ha aplazado al jueves porque la sala no estaba libre. Por favor, dígaselo a todos sus compañeros.",
    "it": "La riunione è stata spostata a giovedì perché la sala non era libera. Si prega di dirlo a tutti i colleghi.",
    "pt": "A reunião foi adiada para quinta-feira porque a sala não estava livre. Por favor, avise todos os seus colegas.",
    "nl": "De vergadering is verplaatst naar donderdag omdat de zaal niet vrij was. Vertel het alstublieft aan al uw collega's.",
    "da": "Mødet er blevet flyttet til torsdag, fordi lokalet ikke var ledigt. Fortæl det venligst til alle dine kolleger.",
    "sv": "Mötet har flyttats till torsdag eftersom rummet inte var ledigt. Berätta det för alla dina kolleger.",
    "no": "Møtet er flyttet til torsdag fordi rommet ikke var ledig. Vennligst si ifra til alle kollegaene dine nå.",
    "fi": "Kokous on siirretty torstaille, koska huone ei ollut vapaana. Kerro siitä myös kaikille työkavereillesi.",
    "hu": "Az értekezletet csütörtökre halasztották, mert a terem nem volt szabad. Kérjük, mondja el minden kollégájának.",
    "pl": "Spotkanie zostało przeniesione na czwartek, ponieważ sala nie była wolna. Proszę o tym powiedzieć wszystkim.",
    "cs": "Schůze byla přesunuta na čtvrtek, protože místnost nebyla volná. Řekněte to prosím všem svým kolegům.",
    "tr": "Toplantı perşembe gününe ertelendi çünkü oda boş değildi. Lütfen bunu tüm iş arkadaşlarınıza söyleyin.",
    "ro": "Ședința a fost mutată joi pentru că sala nu era liberă. Vă rugăm să le spuneți tuturor colegilor.",
    "ru": "Совещание перенесено на четверг, потому что зал не был свободен. Пожалуйста, скажите об этом всем коллегам.",
    "uk": "Нараду перенесено на четвер, тому що зала не була вільна. Будь ласка, скажіть про це всім колегам.",
    "bg": "Срещата е преместена за четвъртък, защото залата не беше свободна. Моля, кажете на всички колеги.",
    "el": "Η συνάντηση μεταφέρθηκε για την Πέμπτη επειδή η αίθουσα δεν ήταν ελεύθερη.",
    "ja": "会議室が空いていなかったため、会議は木曜日に変更されました。同僚の皆さんに伝えてください。",
    "zh": "由于会议室没有空，会议改到星期四。请告诉所有同事。",
    "ko": "회의실이 비어 있지 않아 회의가 목요일로 변경되었습니다. 모든 동료에게 알려 주세요.",
    "ar": "تم نقل الاجتماع إلى يوم الخميس لأن القاعة لم تكن متاحة. يرجى إبلاغ جميع الزملاء بعد ذلك.",
    "he": "הפגישה הועברה ליום חמישי כי החדר לא היה פנוי.",
    "hi": "बैठक गुरुवार को होगी क्योंकि कमरा खाली नहीं था।",
    "th": "การประชุมเลื่อนไปเป็นวันพฤหัสบดีเพราะห้องไม่ว่าง",
}


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("language", LETTERS)
def test_two_sentences_tell_their_language(language: str) -> None:
    assert describe(LETTERS[language]).language == language


@pytest.mark.parametrize("text", ["", "\n\n", "12 345 67,8", "x = y", "Lorem ipsum dolor sit amet consectetur", "🙂🙂"])
def test_a_language_that_nothing_tells_is_unknown(text: str) -> None:
    assert language_of(text) == ""


def test_languages_of_translated_messages() -> None:
    """On the catalogues of this machine's programs, five messages at a time, where there are some."""
    messages: dict[str, list[str]] = defaultdict(list)
    for file in sorted(Path("/usr/share/locale").glob("*/LC_MESSAGES/*.mo")):
        language = file.parent.parent.name.split("_")[0].replace("nb", "no").replace("nn", "no")
        if (
            "@" in language
            or language not in LETTERS
            or file.stem not in ("coreutils", "grep", "sed", "tar", "Linux-PAM", "glib20")
        ):
            continue
        with file.open("rb") as opened:
            catalogue = gettext.GNUTranslations(opened)._catalog  # type: ignore[attr-defined]
        messages[language] += [
            said for name, said in sorted(catalogue.items(), key=str)
            if isinstance(name, str) and isinstance(said, str) and len(said) > 40 and said != name and "%" not in said
        ]  # fmt: skip
    tried = [(language, "\n".join(said[at : at + 5])) for language, said in messages.items() for at in range(0, 300, 5)]
    tried = [(language, text) for language, text in tried if text]
    if len(tried) < 200:
        pytest.skip("this machine's programs speak too few languages")
    right = sum(language_of(text) == language for language, text in tried)
    assert right / len(tried) > 0.97


def test_a_report_is_described_by_its_own_sentences() -> None:
    told = describe(REPORT, "Cold chain of vaccines", HEADINGS)
    assert told.language == "en"
    assert told.summary.startswith("The cold chain keeps vaccines between two and eight degrees")
    assert "data logger" in [topic.lower() for topic in told.topics] or "Data loggers" in told.topics
    assert any("vaccine" in topic.lower() or "cold chain" in topic.lower() for topic in told.topics)
    for cut_out in ("Logger(", "Graz", "Copyright", "Home", "status", "?"):
        assert cut_out not in told.summary
    assert pieces_of(one_line(REPORT), told.summary) <= SUMMARY_SENTENCES


def test_headings_weigh() -> None:
    body = "The boat sails past the harbour. The boat sails past the lighthouse. Weather decides when the boat sails."
    plain = describe(body).topics
    headed = describe(body, "Weather", (Heading(1, "Weather", 1), Heading(2, "Weather at sea", 2))).topics
    assert "weather" not in [topic.lower() for topic in plain[:2]]
    assert headed[0].lower() == "weather"


@pytest.mark.parametrize(
    ("text", "summary", "topics"),
    [
        ('{"site": "Graz", "boxes": [{"id": 1, "site": "Wien"}]}', "Fields: site, boxes, id", ("site", "boxes", "id")),
        (
            "\n".join(json.dumps({"when": n, "level": "hot", "note": "It is warm. It is hot."}) for n in range(40)),
            "Fields: when, level, note",
            ("when", "level", "note"),
        ),
        ("site,boxes,too warm\nGraz,12,1\nWien,30,4\nLinz,7,0\n", "Fields: site, boxes, too warm", None),
        ("site\tboxes\nGraz\t12\nWien\t30\nLinz\t7\n", "Fields: site, boxes", None),
        ("| site | boxes |\n|---|---|\n| Graz | 12 |\n| Wien | 30 |\n", "Fields: site, boxes", None),
        ("1,2,3\n4,5,6\n7,8,9\n", "", ()),
        ("name: cold\nversion: 2\nservices:\n  db:\n    image: postgres\n", None, None),
        ("[server]\nhost = 0.0.0.0\nport = 80\n", "Fields: host, port", ("host", "port")),
        (
            "".join(f"2026-03-02 10:14:{n:02} ERROR The box is too warm. It was opened.\n" for n in range(60)),
            "",
            (),
        ),
    ],
)
def test_data_is_described_by_its_fields(text: str, summary: str | None, topics: tuple[str, ...] | None) -> None:
    told = describe(text)
    assert told.language == ""
    if summary is None:
        assert told.summary.startswith("Fields: name, version, services")
    else:
        assert told.summary == summary
    if topics is not None:
        assert told.topics == topics


@pytest.mark.parametrize(
    "source",
    [
        '#!/usr/bin/env python3\n# Copyright 2024 Ana\n\n"""Reads loggers of boxes and reports those that were too warm."""\n\n'
        "import os\n\n\ndef main():\n    box = read(os.environ)\n    if box.warm():\n        print(box)\n    return 0\n",
        "/*\n * Reads loggers of boxes and reports those that were too warm.\n */\n#include <stdio.h>\n\n"
        "int main(void) {\n  struct box b = read();\n  if (b.warm) {\n    puts(b.name);\n  }\n  return 0;\n}\n",
        '// Reads loggers of boxes and reports those that were too warm.\npackage main\n\nimport (\n\t"fmt"\n)\n\n'
        "func main() {\n\tb := read()\n\tif b.warm {\n\t\tfmt.Println(b)\n\t}\n}\n",
    ],
)
def test_code_is_described_by_its_first_comment(source: str) -> None:
    assert describe(source).summary == "Reads loggers of boxes and reports those that were too warm."
    assert describe(source).language == ""


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("It rains, e.g. here. Dr. Wu left.", "en", ["It rains, e.g. here.", "Dr. Wu left."]),
        ("J. Smith came. He was 1.90 m tall.", "en", ["J. Smith came.", "He was 1.90 m tall."]),
        ("Am 3. März kam z. B. Anna. Sie blieb.", "de", ["Am 3. März kam z. B. Anna.", "Sie blieb."]),
        ("It was 2020. Then it ended.", "en", ["It was 2020.", "Then it ended."]),
        ('He said "Stop!" She did. Why? "No," she said.', "en", ['He said "Stop!"', "She did.", "Why?", '"No," she said.']),
        ("会議は木曜日です。部屋は空いていません！「はい。」と言った。", "ja",
         ["会議は木曜日です。", "部屋は空いていません！", "「はい。」", "と言った。"]),
        ("बैठक गुरुवार को होगी। कमरा खाली नहीं था।", "hi", ["बैठक गुरुवार को होगी।", "कमरा खाली नहीं था।"]),
        ("See cortex.py and v1.2.3. Version 4.0 is out", "en", ["See cortex.py and v1.2.3.", "Version 4.0 is out"]),
        ("", "en", []),
    ],
)  # fmt: skip
def test_sentences(text: str, language: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text, language)] == expected


def test_a_huge_text_is_sampled_to_its_end_in_the_same_time() -> None:
    page = "The lighthouse keeper counts the ships of the northern harbour every evening. "
    small = page * 120
    huge = page * 300_000 + "\n" + "The tide table of the southern harbour closes the book of ships. " * 200
    assert len(huge) > 20e6

    def took(text: str) -> float:
        fastest = 1.0
        for _ in range(5):
            began = time.process_time()
            describe(text)
            fastest = min(fastest, time.process_time() - began)
        return fastest

    # A page takes 2 ms where nothing else runs.
    assert took(small) < 0.02
    assert took(huge) < 0.04
    assert "harbour" in " ".join(describe(huge).topics)


HOSTILE = [
    "a" * 200_000, "a." * 100_000, "](" * 100_000, "`" * 100_000, "/*" * 100_000, '"""' * 60_000, "| " * 100_000,
    "\t" * 100_000, "#" * 100_000, "[" * 100_000, "{" * 100_000, ". " * 100_000, "- " * 100_000, "\n" * 100_000,
    "会" * 100_000, "。" * 100_000, "<!--" * 50_000, "--" * 100_000 + "x", "a b " * 50_000, "A. " * 60_000,
    '"a":' * 50_000, "a: " * 60_000, "\u0301" * 100_000, "```\n" * 50_000, "> " * 100_000, "=" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:6]))
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    describe(text, text, (Heading(1, text, 1),))
    assert time.process_time() - began < 0.5


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*LETTERS.values(), REPORT, "| a | b |", "```", "- item", "> said", "\t", "* * *"]),
            st.text(max_size=80),
        ),
        max_size=12,
    ).map("\n".join),
    st.text(max_size=20),
)
def test_whatever_it_is_the_summary_is_of_the_text_and_short(text: str, title: str) -> None:
    told = describe(text, title)
    assert told == describe(text, title)
    assert told.language == "" or len(told.language) == 2
    assert len(told.topics) <= 8 and len(set(told.topics)) == len(told.topics)
    assert "\n" not in told.summary
    if not told.summary.startswith("Fields: "):
        assert pieces_of(one_line(text), told.summary) <= SUMMARY_SENTENCES


def pieces_of(text: str, summary: str) -> int:
    """Of how many pieces of a text, each as long as can be, a summary is made."""
    pieces = 0
    while summary := summary.lstrip():
        length = next(length for length in range(len(summary), -1, -1) if summary[:length] in text)
        assert length, f"{summary[:40]!r} is not in the text"
        summary = summary[length:]
        pieces += 1
    return pieces


def test_function_words_are_those_of_english_where_a_language_is_unknown() -> None:
    assert function_words("xx") == function_words("en") and "the" in function_words("en")
    assert describe("") == Description("", (), "")
