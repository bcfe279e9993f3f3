"""Which sentences of which documents are requirements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.evidence import resolves
from cortex_pipelines.ingest.documents import Document
from cortex_pipelines.ingest.formats.markup import markdown_headings
from cortex_pipelines.planning.requirements import Requirement, find_requirements


def document(text: str, path: str = "spec.md") -> Document:
    return Document(path, "text/markdown", "Spec", text, markdown_headings(text), (), "d", len(text))


def found(text: str) -> list[Requirement]:
    return find_requirements([document(text)])


def statements(text: str) -> list[str]:
    return [requirement.statement for requirement in found(text)]


def test_labelled_items_are_requirements_with_their_label_section_and_acceptance():
    [one] = found(
        "# Shop\n\n## Cart\n\n- **CART-7** A cart must hold 100 items.\n  - Acceptance: the 101st is refused.\n"
    )
    assert (one.label, one.statement, one.strength, one.explicit) == (
        "CART-7",
        "A cart must hold 100 items.",
        "must",
        True,
    )
    assert one.section == "Shop > Cart"
    assert one.acceptance == ("Acceptance: the 101st is refused.",)
    assert one.evidence.location == "spec.md:5"


@pytest.mark.parametrize(
    ("sentence", "strength"),
    [
        ("The cart must be saved.", "must"),
        ("The cart shall be saved.", "must"),
        ("Saving is required: it is mandatory that carts are required to be saved.", "must"),
        ("Carts need to be saved.", "must"),
        ("The cart should be saved.", "should"),
    ],
)
def test_how_strongly_it_is_asked_for(sentence, strength):
    assert [requirement.strength for requirement in found(f"# Spec\n\n{sentence}\n")] == [strength]


def test_prose_lists_tables_and_numbered_items_are_read():
    text = (
        "# Spec\n\nSome words. The cart must be saved. More words.\n\n"
        "1. Orders must be numbered.\n2) Prices should be rounded.\n\n"
        "| id | text |\n|---|---|\n| REQ-9 | Invoices must be kept. |\n"
    )
    assert [s.partition(" |")[0] for s in statements(text)] == [
        "The cart must be saved.",
        "Orders must be numbered.",
        "Prices should be rounded.",
        "Invoices must be kept.",
    ]


def test_what_is_out_of_scope_still_open_or_code_is_not_required():
    text = (
        "# Spec\n\n## Non-goals\n\n- It must not sing.\n\n## Open questions\n\n- Must it dance?\n\n"
        "## Format\n\n```\nThis must not be read.\n```\n\n## Glossary\n\nA cart must be a cart.\n"
    )
    assert statements(text) == []


def test_a_wrapped_item_is_one_requirement_with_all_its_lines():
    [one] = found("# Spec\n\n- A cart must hold\n  at most 100 items.\n")
    assert one.statement == "A cart must hold at most 100 items."
    assert (one.evidence.line_start, one.evidence.line_end) == (3, 4)


def test_the_identifier_does_not_depend_on_the_line():
    before = found("# Spec\n\nThe cart must be saved.\n")
    after = found("# Spec\n\nNew words above.\n\nThe cart must be saved.\n")
    assert [r.requirement_id for r in before] == [r.requirement_id for r in after]


def test_only_specifications_are_asked(build_all, work):
    build_all({"notes.md": "# Notes\n\nYou must try the ferry.\n", "prd.md": "# PRD\n\nThe ferry must leave at 7.\n"})
    assert [row["source"] for row in work.store.snapshot().rows("gaps")] == ["prd.md"]


LINES = st.lists(
    st.sampled_from(
        [
            "# A",
            "## B",
            "- X-1 it must go",
            "  - Acceptance: x",
            "must",
            "It must be. So it shall.",
            "| a | must |",
            "",
            "```",
            "1. should",
        ]
    ),
    max_size=30,
)


@given(LINES)
def test_every_requirement_stands_where_it_says(lines):
    text = "\n".join(lines)
    requirements = found(text)
    assert all(resolves(requirement.evidence, text) for requirement in requirements)
    assert len({requirement.requirement_id for requirement in requirements}) == len(requirements)


@given(st.text(max_size=300))
def test_any_text_is_read(text):
    assert all(resolves(requirement.evidence, text) for requirement in found(text))
