"""What a check shows in the Dagster UI."""

from pathlib import Path

import dagster as dg
import pytest

from cortex_pipelines.assets.outcome import materialize_result
from cortex_pipelines.ingest.quarantine import told
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.stairs import Outcome, Verdict


@pytest.fixture
def shown(work):
    """The metadata of the check `quarantine` of the documents, for rows of quarantine."""
    [documents] = [product for product in PRODUCTS if product.name == "documents"]

    def run(*rows):
        bad = [{"path": path, "reason": reason} for path, reason in rows]
        verdicts = {name: Verdict(True) for name in documents.checks}
        verdicts["quarantine"] = Verdict(not bad, warn=True, metadata=told(bad))
        result = materialize_result(documents, work, Outcome({}, None, verdicts))
        [check] = [check for check in result.check_results if check.check_name == "quarantine"]
        return check

    return run


def test_what_was_not_read_is_shown_by_reason_with_a_link_to_the_report(shown):
    check = shown(("a.pdf", "is encrypted"), ("b.pdf", "is encrypted"), ("c.md", "is empty"))
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.metadata["count"].value == 3
    assert [row.data for row in check.metadata["reasons"].records] == [
        {"reason": "is encrypted", "count": 2, "to_do": "save it without a password", "paths": "a.pdf, b.pdf"},
        {"reason": "is empty", "count": 1, "to_do": "nothing, or put the content there", "paths": "c.md"},
    ]
    assert Path(check.metadata["report_file"].path).is_file()


def test_a_check_that_passed_links_nowhere(shown):
    check = shown()
    assert check.passed
    assert "report_file" not in check.metadata
