"""Findings as SARIF: of the form that the standard asks for, about lines that are there."""

import json
from urllib.parse import unquote

import pytest
from sarif_pydantic import Sarif

from cortex_pipelines.codebase.analyses import CODE_ANALYSES
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.products import PRODUCTS, write_report
from cortex_pipelines.reports.sarif import MOST_RESULTS, render_sarif
from cortex_pipelines.stairs import climb
from tests.ingest.git_building import make_repository

CODE = {
    "app/run it.py": "import subprocess\n\n\ndef run(it):\n    subprocess.call('ls ' + it, shell=True)\n    eval(it)\n",
    "app/größe.py": "import pickle\n\n\ndef load(data):\n    return pickle.loads(data)\n",
}


@pytest.fixture
def analysed(work, folder):
    make_repository(folder / "code", CODE)
    climb(REPOSITORIES, work)
    return climb(CODE_ANALYSES, work)


def test_each_finding_is_a_result_with_its_rule_and_its_place(work, analysed):
    text = render_sarif(work.store.snapshot(), "atlas")
    Sarif.model_validate_json(text)
    (run,) = json.loads(text)["runs"]
    rules, results = run["tool"]["driver"]["rules"], run["results"]
    rows = {row["finding_id"]: row for row in work.store.snapshot().rows("code_findings")}
    assert len(results) == len(rows) > 2
    assert run["properties"]["findings"] == len(rows)
    assert {rule["id"] for rule in rules} == {row["rule"] for row in rows.values()}
    for result in results:
        row = rows[result["partialFingerprints"]["cortexFinding/v1"]]
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == row["rule"]
        (place,) = (location["physicalLocation"] for location in result["locations"])
        path = unquote(place["artifactLocation"]["uri"])
        assert "code/" + path == row["source"]
        lines = CODE[path].split("\n")
        assert place["region"]["snippet"]["text"] in "\n".join(
            lines[place["region"]["startLine"] - 1 : place["region"]["endLine"]]
        )
    assert results[0]["level"] == "error"
    security = [rule for rule in rules if "security" in rule["properties"]["tags"]]
    assert security and all(0 < float(rule["properties"]["security-severity"]) <= 10 for rule in security)
    # Nothing of a URI has to be guessed: what is not of its letters is encoded.
    assert any("%20" in result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results)


def test_it_lies_beside_the_report_and_is_written_again_when_it_is_lost(work, analysed):
    product = next(product for product in PRODUCTS if product.name == "code_analyses")
    path, _ = write_report(product, work, analysed)
    told = path.with_suffix(".sarif")
    assert json.loads(told.read_text())["version"] == "2.1.0"
    told.unlink()
    write_report(product, work, analysed)
    assert told.is_file()


def test_a_project_without_code_is_a_log_without_runs(work):
    assert json.loads(render_sarif(work.store.snapshot(), "atlas"))["runs"] == []
    assert MOST_RESULTS <= 25_000
