"""The staircase: what is compared, how work is cut, and that a climb does each item once."""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.stairs import (
    BATCH_BYTES,
    BATCH_ITEMS,
    USUAL_BATCHES,
    Batch,
    Item,
    Outcome,
    Plan,
    Stair,
    Verdict,
    Work,
    climb,
    compare,
    cut,
)

keys = st.dictionaries(st.text(min_size=1, max_size=6), st.sampled_from(["k1", "k2", "k3"]), max_size=12)


@given(current=keys, stored=keys, staged=keys)
def test_every_item_is_to_do_staged_or_unchanged_and_what_is_stored_but_not_there_is_gone(current, stored, staged):
    changes = compare([Item(name, key) for name, key in current.items()], stored, staged)
    assert len(changes.todo) + changes.staged + changes.unchanged == len(current)
    assert set(changes.gone) == set(stored) - set(current)
    for item in changes.todo:
        assert stored.get(item.id) != item.key
        assert staged.get(item.id) != item.key


@given(sizes=st.lists(st.integers(0, 3 * BATCH_BYTES), max_size=300))
def test_cut_keeps_every_item_in_order_and_makes_no_more_than_49_batches_of_many(sizes):
    items = [Item(str(number), "key", size) for number, size in enumerate(sizes)]
    batches = cut(items)
    assert [item for batch in batches for item in batch.items] == items
    assert all(batch.items for batch in batches)
    assert len(batches) <= 2 * USUAL_BATCHES + USUAL_BATCHES + 1


def test_many_small_items_are_cut_by_count():
    batches = cut([Item(str(number), "key", 10) for number in range(BATCH_ITEMS + 1)])
    assert [len(batch.items) for batch in batches] == [BATCH_ITEMS, 1]


def test_equal_items_make_an_equal_batch_name_and_another_key_makes_another():
    first, second = cut([Item("a", "1"), Item("b", "1")]), cut([Item("a", "1"), Item("b", "1")])
    assert first[0].name == second[0].name
    assert cut([Item("a", "2"), Item("b", "1")])[0].name != first[0].name


def test_a_climb_maps_each_batch_once_and_hands_the_counts_to_commit(settings):
    heard = []

    def plan(work: Work) -> Plan:
        return Plan([Batch("one", (Item("a", "1"),)), Batch("two", (Item("b", "1"),))], {"new": 2})

    def commit(work: Work, plan: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
        return Outcome({**plan.summary, "done": sum(count["done"] for count in counts)}, changed=True)

    stair = Stair(plan, lambda work, batch: {"done": len(batch.items)}, commit)
    outcome = climb(stair, Work("p", settings, None), lambda done, of: heard.append((done, of)))  # type: ignore[arg-type]
    assert outcome.metadata == {"new": 2, "done": 2}
    assert heard == [(0, 2), (1, 2), (2, 2)]


def test_only_a_failed_verdict_that_does_not_warn_fails_an_outcome():
    outcome = Outcome(verdicts={"a": Verdict(True), "b": Verdict(False, warn=True), "c": Verdict(False)})
    assert outcome.failed == ("c",)
