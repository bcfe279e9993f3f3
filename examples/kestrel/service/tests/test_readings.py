import pytest
from kestrel.readings import BadBatch, Reading, drop_duplicates, validate_batch


def reading(second=0, dbm=-60):
    return Reading("tag", "r1", second, dbm)


def test_a_batch_of_501_is_refused():
    with pytest.raises(BadBatch):
        validate_batch([reading(second) for second in range(501)])


def test_impossible_signal_strength_is_dropped():
    assert validate_batch([reading(dbm=-200), reading(dbm=-60)]) == [reading(dbm=-60)]


def test_duplicates_count_once():
    assert drop_duplicates([reading(), reading()]) == [reading()]
