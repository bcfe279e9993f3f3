"""Search: words and meaning fused into one ranking, each hit with its place."""

import pytest

from cortex_pipelines.retrieval.search import search, search_words

NOTES = {
    "cars.md": "# Cars\n\nBuying a used car: look at the engine, the tyres and the brakes before you pay the dealer.\n",
    "cats.md": "# Cats\n\nThe cat sleeps on the sofa all day and hunts mice at night.\n",
    "bread.md": "# Bread\n\nKnead the dough, let it rise in a warm place and bake it in a hot oven.\n",
    "money.md": "# Money\n\nThe bank raised its interest rates; loans and mortgages cost more this quarter.\n",
    "birds.md": "# Birds\n\nSwallows fly south in autumn and return to their nests in spring.\n",
    "parts.md": "# Parts\n\nThe valve QX-8842 of the third pump is made of zirconium.\n",
    "music.md": "# Music\n\nThe orchestra rehearses a symphony with two violins and a trumpet.\n",
}


@pytest.fixture
def snapshot(work, index):
    index(NOTES, {"src/store.py": "class ReadingStore:\n    def last_of_each_receiver(self):\n        return []\n"})
    return work.store.snapshot()


@pytest.mark.parametrize("query", ["zirconium", "QX-8842", "what is the qx-8842 made of", "ZIRCONIUM valve"])
def test_a_rare_word_finds_its_document_first(snapshot, query):
    assert search(snapshot, query)[0].source == "parts.md"


@pytest.mark.parametrize(
    ("query", "source"),
    [
        ("purchasing a second-hand automobile from a vendor", "cars.md"),
        ("a kitten napping on furniture", "cats.md"),
        ("recipe for a loaf", "bread.md"),
        ("borrowing becomes expensive", "money.md"),
        ("migration of feathered animals", "birds.md"),
        ("concert of string instruments", "music.md"),
    ],
)
def test_a_paraphrase_finds_by_meaning_what_holds_none_of_its_words(snapshot, query, source):
    assert search(snapshot, query)[0].source == source


@pytest.mark.parametrize("query", ["ReadingStore", "reading store", "last receiver", "lastOfEachReceiver"])
def test_code_is_found_by_the_parts_of_its_names(snapshot, query):
    assert search(snapshot, query)[0].source == "r/src/store.py"


def test_a_hit_tells_its_place(snapshot):
    hit = search(snapshot, "zirconium")[0]
    assert (hit.line_start, hit.line_end, hit.page, hit.section, hit.location) == (1, 3, None, "Parts", "parts.md:1")
    assert hit.text == NOTES["parts.md"].strip()


def test_hits_are_ordered_by_their_score_and_no_more_than_asked_for(snapshot):
    hits = search(snapshot, "the pump and the bank", limit=3)
    assert len(hits) == 3
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert hits == search(snapshot, "the pump and the bank", limit=3)


def test_a_search_can_be_narrowed_to_one_source(snapshot):
    assert {hit.source for hit in search(snapshot, "zirconium", where={"source": "cats.md"})} == {"cats.md"}


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_a_blank_query_finds_nothing(snapshot, query):
    assert search(snapshot, query) == []


@pytest.mark.parametrize(
    "query", ['"', "a AND (b OR", "text:[* TO *]", "'; DROP TABLE chunks; --", "\\", "😀", "*", "\0"]
)
def test_what_looks_like_a_query_language_is_only_words(snapshot, query):
    assert all(hit.source in {*NOTES, "r/src/store.py"} for hit in search(snapshot, query))


def test_a_project_without_an_index_finds_nothing(work):
    assert search(work.store.snapshot(), "anything") == []


def test_the_words_of_a_name_are_added_to_it():
    assert search_words("HTTPServer last_seen plain") == "HTTPServer last_seen plain http server last seen"
    assert search_words("plain words") == "plain words"
