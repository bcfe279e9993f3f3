"""Runs whose process is gone without a word: Dagster would take them for running for ever, and they hold places."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

LOOK_SECONDS = 30
# On runs that are processes of a code location's server, and on no other.
SERVER_TAG = ".dagster/grpc_info"
# A process that was started so much later than the run's own has only its number.
CLOCK_SECONDS = 5.0


@dg.sensor(
    name="lost_runs",
    minimum_interval_seconds=LOOK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fails runs whose process has ended without saying so, such as with its container, so that they are "
    "started again.",
)
def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Evaluated where the processes of runs are: by the server that starts them."""
    instance = context.instance
    lost = [run for run in _here(context) if _has_ended(instance, run.run_id)]
    # What a process says last it says before it ends, so it is asked again.
    lost = [run for run in lost if (now := instance.get_run_by_id(run.run_id)) and now.status == run.status]
    for run in lost:
        instance.report_run_failed(run, "The process of this run has ended without a word.")
    return dg.SkipReason(f"{len(lost)} runs had no process any more")


def _here(context: dg.SensorEvaluationContext) -> Iterator[dg.DagsterRun]:
    """Runs under way that are processes of this code location."""
    here = context.code_location_origin
    for run in context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        origin = run.remote_job_origin
        if SERVER_TAG in run.tags and origin and here and origin.location_name == here.location_name:
            yield run


def _has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        told = entry.dagster_event.engine_event_data.metadata.get("pid") if entry.dagster_event else None
        if told is not None:
            return not _alive(int(str(told.value)), entry.timestamp)
    # Before its process has told its number there is nothing to look for.
    return False


def _alive(pid: int, told: float) -> bool:
    """Whether the process is there which told its number at that time, and not another one that has it now."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        # Behind the name, which may hold anything: the state is first, the start in ticks since the boot is 20th.
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    started = int(boot.split()[1]) + int(words[19]) / os.sysconf("SC_CLK_TCK")
    return words[0] not in "ZX" and started < told + CLOCK_SECONDS
