"""The gap report: against the labelled sample, and case by case."""

import json
import tomllib
from pathlib import Path

import pytest

from cortex_pipelines.products import PRODUCTS, build

EXPECTED = tomllib.loads((Path(__file__).parents[2] / "examples" / "kestrel" / "expected.toml").read_text())


def gaps(work):
    return {row["label"]: row for row in work.store.snapshot().rows("gaps")}


def of(rows, beginning):
    exact = [row for label, row in rows.items() if label == beginning]
    return (exact or [row for label, row in rows.items() if label.startswith(beginning)])[0]


def test_the_gaps_of_the_sample_are_found_and_what_is_built_is_not_called_one(sample_work):
    rows = gaps(sample_work)
    told = {
        status: [name for name in names if of(rows, name)["status"] != status] for status, names in EXPECTED.items()
    }
    assert told == {"unmapped": [], "partially_implemented": [], "implemented": [], "unknown": []}


def test_each_row_of_the_sample_has_its_files_and_its_evidence(sample_work):
    rows = gaps(sample_work)
    track = of(rows, "The track builder must split")
    assert track["related_files"][0].endswith("kestrel/tracks.py")
    assert "GAP_HOURS = 24 where 12 hours" in track["notes"]
    [evidence] = json.loads(track["evidence"])
    assert evidence["quote"] == "GAP_HOURS = 24"
    for row in rows.values():
        text = sample_work.store.snapshot().texts([row["source"]])[row["source"]].split("\n")
        assert row["statement"].split(" ")[-1] in " ".join(text[row["line_start"] - 1 : row["line_end"]])
        if row["status"] in ("implemented", "partially_implemented"):
            assert row["related_files"]
            assert json.loads(row["evidence"])


def test_without_code_nothing_is_claimed(build_all, work):
    outcomes = build_all({"prd.md": "# PRD\n\n- R-1: The ferry must leave at 7.\n"})
    assert gaps(work)["R-1"]["status"] == "unknown"
    assert outcomes["gap_report"].verdicts["covers_every_requirement"].passed


CODE = {
    "ferry.py": (
        '"""Ferries."""\n\n\ndef leave_harbour(ferry, crew):\n'
        '    """The ferry leaves the harbour with its crew."""\n    return ferry.start(crew)\n'
    )
}


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("A ferry must leave the harbour with its crew.", "implemented"),
        ("Passengers must be counted by a turnstile.", "unmapped"),
        ("The ferry must be modern and user-friendly.", "unknown"),
        ("A ferry must not leave during a thunderstorm warning.", "unknown"),
    ],
)
def test_a_requirement_is_judged_by_what_the_code_says(build_all, work, statement, status):
    build_all({"prd.md": f"# PRD\n\n- R-1: {statement}\n"}, CODE)
    assert gaps(work)["R-1"]["status"] == status, gaps(work)["R-1"]["notes"]


def test_code_that_says_it_is_not_finished_is_a_part(build_all, work):
    code = {"ferry.py": "def count_passengers(ferry):\n    # FIXME: count the passengers\n    raise SystemExit\n"}
    build_all({"prd.md": "# PRD\n\n- R-1: The ferry must count its passengers.\n"}, code)
    assert gaps(work)["R-1"]["status"] == "partially_implemented"


def test_nothing_changed_judges_nothing(build_all, work, monkeypatch):
    build_all({"prd.md": "# PRD\n\n- R-1: The ferry must leave.\n"}, CODE)
    monkeypatch.setattr("cortex_pipelines.planning.gaps.judge", lambda *_: pytest.fail("it was judged again"))
    assert not build(next(product for product in PRODUCTS if product.name == "gap_report"), work).changed


def test_a_requirement_that_is_gone_is_gone_from_the_report(build_all, work):
    build_all({"prd.md": "# PRD\n\n- R-1: The ferry must leave.\n- R-2: The ferry must arrive.\n"})
    outcomes = build_all({"prd.md": "# PRD\n\n- R-2: The ferry must arrive.\n"})
    assert list(gaps(work)) == ["R-2"]
    assert outcomes["gap_report"].changed
