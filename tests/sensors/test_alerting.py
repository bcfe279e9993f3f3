"""Who is told of what: failed runs, and lanes that nobody answers any more."""

import dagster as dg
import pytest

from cortex_pipelines.definitions import build_definitions
from cortex_pipelines.settings import load_settings
from tests.servers.faults import serving
from tests.servers.inboxes import webhook


def definitions(variables):
    return build_definitions(load_settings(variables, env_file=None), variables)


@pytest.fixture
def told():
    with webhook() as (url, posted):
        yield {"CORTEX_ALERT_WEBHOOK": url}, posted


def test_without_anybody_to_tell_there_is_no_sensor(variables):
    assert "failed_runs" not in [sensor.name for sensor in definitions(variables).sensors]


def test_a_failed_run_is_told_with_its_project_and_its_reason(variables, settings, told):
    alerts, posted = told
    (settings.inbox / "atlas").mkdir()
    (settings.inbox / "atlas" / "a.md").write_text("# A\n\nText.\n")
    variables = variables | alerts | {"CORTEX_STORE": "/dev/null/no-store"}
    defs = definitions(variables)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("projects", ["atlas"])
        job = defs.resolve_job_def("audit")
        run = job.execute_in_process(instance=instance, partition_key="atlas", raise_on_error=False)
        assert not run.success
        context = dg.build_run_status_sensor_context(
            sensor_name="failed_runs",
            dagster_instance=instance,
            dagster_run=run.dagster_run,
            dagster_event=run.get_run_failure_event(),
        )
        defs.resolve_sensor_def("failed_runs")(context.for_run_failure())
    [alert] = posted
    assert alert["title"].endswith("failed for atlas")
    assert "no-store" in alert["text"]
    assert len(alert["text"]) < 2_500


def test_a_lane_is_told_once_when_it_falls_and_once_when_it_is_back(variables, told):
    alerts, posted = told
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None

        def look(defs):
            nonlocal cursor
            sensor = defs.resolve_sensor_def("lane_health")
            done = sensor(dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs))
            cursor = getattr(done, "cursor", None) or cursor
            return [alert["title"] for alert in posted]

        with serving() as server:
            variables = variables | alerts | {"ARGOS_LANE_CODER_URL": server.url}
            defs = definitions(variables)
            assert look(defs) == []
        fell = "Cortex: no model answers for the lane CODER"
        assert look(defs) == [fell]
        assert look(defs) == [fell]
        assert server.url in posted[0]["text"]
        port = int(server.url.rpartition(":")[2])
        back = "Cortex: the lane CODER is answered again"
        with serving(port=port):
            assert look(defs) == [fell, back]
        assert posted[1]["resolved"] is True
