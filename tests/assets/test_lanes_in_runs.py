"""A lane in a run: what it adds to a product, what its calls took, its pool, and models that are loaded before."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from click.testing import CliRunner

from cortex_pipelines.cli import main
from cortex_pipelines.definitions import build_definitions
from cortex_pipelines.names import Lane
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.resources.warming import lanes_ahead, lanes_of_run
from cortex_pipelines.sensors.lane_health import next_audit
from cortex_pipelines.settings import load_settings
from tests.servers.faults import Answer, serving
from tests.servers.keepers import Router

SAID = "Decide on the <b>paper</b> of the timetable printer first. [1] Trust me. See the timetable printer [99]. "
SAID += "The winter timetable is printed after that [2]. The harbour will be rebuilt in marble [2]."
PRD = """# PRD

- R-1: The timetable printer must print the winter timetable.

## Open points

- The paper of the timetable printer is TBD.
"""


@pytest.fixture
def atlas(variables, settings):
    """A project with a gap and an open point; runs of it, with a lane where one is named."""
    folder = settings.inbox / "atlas"
    folder.mkdir()
    (folder / "prd.md").write_text(PRD)

    def run(instance=None, project="atlas", **lanes):
        given = variables | {"CORTEX_LANE_CACHE": "off"} | lanes
        definitions = build_definitions(load_settings(given, env_file=None), given)
        instance = instance or dg.DagsterInstance.ephemeral()
        instance.add_dynamic_partitions("projects", [project])
        job = definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=instance, partition_key=project)

    return run


def metadata(result, product="roadmap"):
    event = next(e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(product))
    told = event.materialization.metadata
    return {name: value if name == "lanes" else value.value for name, value in told.items()}


def report(settings, ending="md"):
    return (settings.reports / "atlas" / f"roadmap.{ending}").read_text()


def test_what_a_lane_adds_cites_what_there_is_and_its_calls_are_in_the_metadata(atlas, settings):
    with serving(Answer(text=SAID)) as server:
        told = metadata(atlas(ARGOS_LANE_ORCHESTRATOR_URL=server.url))
        again = metadata(atlas(ARGOS_LANE_ORCHESTRATOR_URL=server.url))
    assert len(server.asked) == 1
    assert server.asked[0]["temperature"] == 0.3
    assert told["overview"] == "by m, 2 sentences, 3 dropped"
    assert {name: told[f"lane_{name}"] for name in ("calls", "attempts", "cached", "fallbacks", "failed")} == {
        "calls": 1,
        "attempts": 1,
        "cached": 0,
        "fallbacks": 0,
        "failed": 0,
    }
    assert (told["lane_prompt_tokens"], told["lane_completion_tokens"]) == (7, 3)
    assert 0 < told["lane_p50_seconds"] <= told["lane_p95_seconds"]
    [row] = told["lanes"].records
    assert (row.data["lane"], row.data["served_by"]) == ("ORCHESTRATOR", f"m at {server.url}")
    assert "lanes" not in again
    markdown, page = report(settings), report(settings, "html")
    assert "written by m, lane ORCHESTRATOR" in markdown
    assert r"The winter timetable is printed after that\. (*" in markdown
    assert not [word for word in ("Trust me", "See the", "marble") if word in markdown]
    assert "<b>paper" not in page
    # No other product asked anybody.
    assert "no model was asked" in (settings.reports / "atlas" / "gap_report.md").read_text()


def test_without_an_answer_the_roadmap_is_whole_and_the_next_run_asks_again(atlas, settings):
    answers = {"now": Answer(status=400, body=b'{"error": {"message": "no"}}')}
    with serving(lambda _: answers["now"]) as server:
        told = metadata(atlas(ARGOS_LANE_ORCHESTRATOR_URL=server.url))
        assert told["overview"].startswith("none: no model answered")
        assert told["lane_failed"] == 1
        assert "## Phase 1" in report(settings)
        assert "no model was asked" in report(settings)
        answers["now"] = Answer(text=SAID)
        assert "sentences" in metadata(atlas(ARGOS_LANE_ORCHESTRATOR_URL=server.url))["overview"]
        assert "## Overview" in report(settings)
        # With the lane gone, so is what it wrote.
        assert "overview" not in metadata(atlas())
        assert "## Overview" not in report(settings)


def test_a_lane_that_has_no_model_while_others_do_is_not_asked(atlas, settings):
    with serving(Answer(text=SAID)) as server:
        told = metadata(atlas(ARGOS_LANE_CODER_URL=server.url))
    assert server.asked == []
    assert "overview" not in told
    assert "lanes" not in told


def test_an_answer_without_citations_adds_nothing(atlas, settings):
    with serving(Answer(text="All is well. Ship it.")) as server:
        assert "0 sentences, 2 dropped" in metadata(atlas(ARGOS_LANE_ORCHESTRATOR_URL=server.url))["overview"]
    assert "Ship it" not in report(settings)
    assert "## Overview" not in report(settings)


def test_the_command_tells_what_a_lane_took(atlas, variables):
    with serving(Answer(text=SAID)) as server:
        given = variables | {"ARGOS_LANE_ORCHESTRATOR_URL": server.url}
        [told] = json.loads(CliRunner().invoke(main, ["run", "atlas", "--json"], env=given).stdout)
        assert told["products"]["roadmap"]["lanes"]["ORCHESTRATOR"]["calls"] == 1
        assert told["products"]["gap_report"]["lanes"] == {}
        shown = CliRunner().invoke(main, ["run", "atlas", "--force"], env=given).stdout
    assert "ORCHESTRATOR: 1 call, 1 cached, 0 tokens in, 0 out" in shown


@pytest.mark.heavy
@pytest.mark.parametrize("limit", [1, 2])
def test_a_lanes_pool_limits_the_steps_of_all_runs(atlas, settings, tmp_path, limit):
    other = settings.inbox / "borealis"
    other.mkdir()
    (other / "prd.md").write_text(PRD)
    (tmp_path / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(tmp_path / "dagster"))
    instance.event_log_storage.set_concurrency_slots("lane_orchestrator", limit)
    with instance, serving(Answer(text=SAID, delay=4)) as server:
        runs = [
            threading.Thread(target=atlas, args=(instance, project), kwargs={"ARGOS_LANE_ORCHESTRATOR_URL": server.url})
            for project in ("atlas", "borealis")
        ]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert len(server.asked) == 2
        assert server.most_active == limit


def test_each_lane_that_a_product_asks_has_its_pool(variables):
    definitions = build_definitions(load_settings(variables, env_file=None), variables)
    pools = {
        key.to_user_string(): node.pools
        for key, node in definitions.resolve_asset_graph()._asset_nodes_by_key.items()
        if key.to_user_string() in {product.name for product in PRODUCTS}
    }
    assert pools == {p.name: {f"lane_{p.lane.lower()}"} if p.lane else set() for p in PRODUCTS}


def test_a_run_has_the_models_loaded_that_its_later_steps_will_ask(atlas):
    keeper = Router(["brain"])
    with serving(Answer(text=SAID), keeper=keeper) as server:
        lane = {"ARGOS_LANE_ORCHESTRATOR_URL": server.url, "ARGOS_LANE_ORCHESTRATOR_MODEL": "brain"}
        told = metadata(atlas(**lane))
    assert "sentences" in told["overview"]
    # Nobody had to wait for it.
    assert told["lane_attempts"] == 1
    assert keeper.commands == ["load brain"]


def test_what_waits_and_what_is_due_is_known_before(variables):
    definitions = build_definitions(load_settings(variables, env_file=None), variables)
    job = definitions.resolve_job_def("audit")
    now = datetime.now(UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        assert lanes_ahead(instance, None, now) == []
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
        assert lanes_of_run(run) == [Lane.ORCHESTRATOR]
        assert lanes_ahead(instance, None, now) == [Lane.ORCHESTRATOR]
    with dg.DagsterInstance.ephemeral() as instance:
        due = next_audit(now)
        assert (due.weekday(), due.hour, due > now) == (0, 5, True)
        assert lanes_ahead(instance, due, due - timedelta(minutes=3)) == [Lane.ORCHESTRATOR]
        assert lanes_ahead(instance, due, due - timedelta(hours=3)) == []


def test_the_sensor_has_them_loaded(variables):
    keeper = Router(["brain"])
    with dg.DagsterInstance.ephemeral() as instance, serving(keeper=keeper) as server:
        given = variables | {"ARGOS_LANE_ORCHESTRATOR_URL": server.url, "ARGOS_LANE_ORCHESTRATOR_MODEL": "brain"}
        definitions = build_definitions(load_settings(given, env_file=None), given)
        sensor = definitions.resolve_sensor_def("lane_health")

        def look():
            sensor(dg.build_sensor_context(instance=instance, definitions=definitions))

        look()
        assert keeper.commands == []
        instance.create_run_for_job(definitions.resolve_job_def("audit"), status=dg.DagsterRunStatus.STARTING)
        look()
        until = time.monotonic() + 10
        while keeper.commands != ["load brain"]:
            assert time.monotonic() < until
            time.sleep(0.05)
