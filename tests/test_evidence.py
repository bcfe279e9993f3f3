"""Evidence: a quote holds only where it stands."""

from hypothesis import assume, given
from hypothesis import strategies as st

from cortex_pipelines.evidence import Evidence, Severity, dump, load, resolves, verify

lines = st.lists(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20),
    min_size=1,
    max_size=8,
)


@given(lines=lines, data=st.data())
def test_a_quote_of_lines_resolves_there(lines, data):
    start = data.draw(st.integers(1, len(lines)))
    end = data.draw(st.integers(start, len(lines)))
    quote = "\n".join(lines[start - 1 : end])
    assume(quote)
    assert resolves(Evidence("a", start, end, quote), "\n".join(lines))


def test_a_quote_of_another_line_does_not_resolve():
    text = "first\nsecond\nthird"
    assert resolves(Evidence("a", 2, 2, "second"), text)
    assert not resolves(Evidence("a", 1, 1, "second"), text)
    assert not resolves(Evidence("a", 2, 2, "Second"), text)


def test_nothing_resolves_in_a_source_that_is_gone_nor_an_empty_quote_nor_lines_that_are_none():
    assert not resolves(Evidence("a", 1, 1, "x"), None)
    assert not resolves(Evidence("a", 1, 1, ""), "x")
    assert not resolves(Evidence("a", 0, 1, "x"), "x")
    assert not resolves(Evidence("a", 2, 1, "x"), "x\nx")


def test_verify_reads_each_source_once_and_keeps_only_what_holds():
    asked = []

    def texts(sources):
        asked.append(list(sources))
        return {"a": "one\ntwo"}

    good, bad, gone = Evidence("a", 1, 1, "one"), Evidence("a", 1, 1, "two"), Evidence("b", 1, 1, "one")
    verified = verify([good, bad, gone], texts)
    assert (verified.kept, verified.dropped) == ((good,), (bad, gone))
    assert asked == [["a", "b"]]


@given(st.lists(st.builds(Evidence, st.text(), st.integers(), st.integers(), st.text(), st.none() | st.integers())))
def test_evidence_survives_its_column(evidence):
    assert load(dump(evidence)) == tuple(evidence)


def test_the_location_of_a_paged_document_is_its_page():
    assert Evidence("a.md", 3, 4, "x").location == "a.md:3"
    assert Evidence("a.pdf", 3, 4, "x", page=2).location == "a.pdf, page 2"


def test_the_worst_severity_ranks_first():
    assert sorted(Severity, key=lambda severity: severity.rank)[0] is Severity.CRITICAL
