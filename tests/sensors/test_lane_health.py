"""The lanes in the Dagster UI: shown when they change, warned of when nobody can be asked, and never in the way."""

import dagster as dg

from cortex_pipelines.definitions import build_definitions
from cortex_pipelines.settings import load_settings
from tests.servers.faults import nobody, serving


def definitions(variables, **lanes):
    return build_definitions(load_settings(variables | lanes, env_file=None), variables | lanes)


def look(defs, instance, cursor=None):
    sensor = defs.resolve_sensor_def("lane_health")
    return sensor(dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs))


def test_without_lanes_there_is_nothing_to_watch(variables):
    defs = definitions(variables)
    assert "lane_health" not in [sensor.name for sensor in defs.sensors]
    assert not [key for key in defs.resolve_asset_graph().get_all_asset_keys() if key.path[0] == "lanes"]


def test_what_changes_is_shown_and_a_lane_that_nobody_serves_is_warned_of(variables):
    with dg.DagsterInstance.ephemeral() as instance, serving() as server:
        defs = definitions(variables, ARGOS_LANE_CODER_URL=server.url, ARGOS_LANE_GOVERNANCE_URL=nobody())
        first = look(defs, instance)
        checks = {e.asset_key.path[-1]: e for e in first.asset_events if isinstance(e, dg.AssetCheckEvaluation)}
        assert {name: check.passed for name, check in checks.items()} == {
            "coder": True,
            "governance": False,
            "orchestrator": True,
            "super_reader": True,
            "fast_rag": True,
        }
        assert checks["governance"].severity is dg.AssetCheckSeverity.WARN
        [row] = checks["governance"].metadata["endpoints"].records
        assert "set ARGOS_LANE_GOVERNANCE_URL" in row.data["fix"]
        assert isinstance(look(defs, instance, first.cursor), dg.SkipReason)
        server.window = 10
        third = look(defs, instance, first.cursor)
        assert {event.asset_key.path[-1] for event in third.asset_events} == {"coder"}
        assert server.asked == []


def test_the_check_can_be_run_by_hand_and_lanes_are_no_part_of_a_projects_run(variables):
    with dg.DagsterInstance.ephemeral() as instance, serving() as server:
        defs = definitions(variables | {"CORTEX_PROJECTS": "a"}, ARGOS_LANE_CODER_URL=server.url)
        job = defs.resolve_job_def("audit")
        assert not [key for key in job.asset_layer.executable_asset_keys if key.path[0] == "lanes"]
        selection = dg.AssetSelection.checks_for_assets(dg.AssetKey(["lanes", "coder"]))
        checking = dg.define_asset_job("checking", selection).resolve(asset_graph=defs.resolve_asset_graph())
        done = checking.execute_in_process(instance=instance)
        assert [evaluation.passed for evaluation in done.get_asset_check_evaluations()] == [True]
