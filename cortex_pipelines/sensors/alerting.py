"""Runs that failed, and lanes that nobody answers any more, told to people where alerts are set."""

from collections.abc import Sequence

import dagster as dg

from cortex_pipelines.alerts import Alert, configured, send
from cortex_pipelines.settings import Settings


def alerting(settings: Settings) -> Sequence[dg.SensorDefinition]:
    """The sensor that tells of failed runs; none where nobody is to be told."""
    if not configured(settings):
        return ()

    @dg.run_failure_sensor(
        name="failed_runs",
        default_status=dg.DefaultSensorStatus.RUNNING,
        monitor_all_code_locations=False,
        description="Tells people of each run that failed, by CORTEX_ALERT_WEBHOOK or CORTEX_ALERT_EMAIL.",
    )
    def failed_runs(context: dg.RunFailureSensorContext) -> None:
        for fault in send(settings, alert_of(context)):
            context.log.error(f"nobody was told of run {context.dagster_run.run_id}: {fault}")

    return (failed_runs,)


def alert_of(context: dg.RunFailureSensorContext) -> Alert:
    """The run, its project and what its failed steps say, a line for each."""
    run = context.dagster_run
    project = run.tags.get("dagster/partition", "")
    lines = [context.failure_event.message or ""]
    for event in context.get_step_failure_events():
        error = event.step_failure_data.error
        said = (error.cause.message if error and error.cause else error.message if error else "").strip()
        lines.append(f"{event.step_key}: {said.splitlines()[0] if said else 'failed'}")
    title = f"Cortex: run {run.run_id[:8]} failed" + (f" for {project}" if project else "")
    return Alert(title, "\n".join(line for line in lines if line))
