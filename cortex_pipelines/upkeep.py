"""Daily upkeep: stores are pruned and compacted, and runs of Dagster that are old go, with their logs."""

import json
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import dagster as dg

from cortex_pipelines.operations.pruning import prunable_projects, prune_leftovers, prune_project
from cortex_pipelines.resources import SettingsResource

RUN_DAYS = 30
UPKEEP_CRON = "30 3 * * *"
# Deleting a run takes some commits; a page of them is listed at a time.
PAGE = 200
PARTITION_TAG = "dagster/partition"


class UpkeepConfig(dg.Config):
    """How long runs are kept."""

    run_days: int = RUN_DAYS


def delete_old_runs(instance: dg.DagsterInstance, days: int) -> int:
    """Delete runs that ended more than `days` ago, with their events, logs and step storage; how many there were.

    The newest run of each job and project stays, whatever its age: it is what the UI shows of them.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    newest: dict[tuple[str, str], str] = {}
    old: list[str] = []
    cursor = None
    while records := instance.get_run_records(limit=PAGE, cursor=cursor):
        cursor = records[-1].dagster_run.run_id
        for record in records:
            run = record.dagster_run
            # Records come newest first.
            kept = newest.setdefault((run.job_name, run.tags.get(PARTITION_TAG, "")), run.run_id)
            ended = record.update_timestamp.replace(tzinfo=UTC)
            if run.is_finished and run.run_id != kept and ended < before:
                old.append(run.run_id)
    for run_id in old:
        instance.delete_run(run_id)
        _delete_files(instance, run_id)
    _delete_left(instance, before)
    return len(old)


def _delete_files(instance: dg.DagsterInstance, run_id: str) -> None:
    """What a run left in files: its compute logs, and what its steps handed on."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    kept = Path(instance.storage_directory()) / run_id
    if kept.is_dir() and not kept.is_symlink():
        shutil.rmtree(kept, ignore_errors=True)


def _delete_left(instance: dg.DagsterInstance, before: datetime) -> None:
    """The old files of runs that are no longer there: deleted by hand, which leaves them, or lost with a database."""
    storage = Path(instance.storage_directory())
    if not storage.is_dir():
        return
    for folder in storage.iterdir():
        # Files of a run under way change; what an asset hands on lies there too, under its name.
        if (
            _is_run_id(folder.name)
            and folder.stat().st_mtime < before.timestamp()
            and not instance.has_run(folder.name)
        ):
            _delete_files(instance, folder.name)


def _is_run_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


@dg.op(description="Prunes and compacts the store of every project.")
def prune_stores(context: dg.OpExecutionContext, settings: SettingsResource) -> None:
    """One project that cannot be pruned keeps none of the others from it."""
    from cortex_pipelines.errors import CortexError

    told: dict[str, dg.MetadataValue] = {}
    failed: list[str] = []
    for project in prunable_projects(settings.value):
        try:
            done = prune_project(project, settings.value)
            told[project] = dg.MetadataValue.text(
                f"{len(done.compacted)} tables compacted, {done.freed_bytes / 1e6:.1f} MB freed"
            )
        except CortexError as error:
            failed.append(f"{project}: {error}")
    prune_leftovers(settings.value)
    context.add_output_metadata(told)
    if failed:
        raise dg.Failure("; ".join(failed), allow_retries=False)


@dg.op(description="Deletes runs of Dagster that ended long ago, but the newest of each job and project.")
def prune_runs(context: dg.OpExecutionContext, config: UpkeepConfig) -> None:
    """Also in PostgreSQL: the instance does it."""
    context.add_output_metadata({"runs": delete_old_runs(context.instance, config.run_days)})


@dg.job(
    description="Removes what is no longer needed: old versions and leftovers in stores, old runs.",
    executor_def=dg.in_process_executor,
)
def upkeep() -> None:
    """Both ops stand for themselves."""
    prune_stores()
    prune_runs()


daily_upkeep = dg.ScheduleDefinition(
    name="daily_upkeep",
    job=upkeep,
    cron_schedule=UPKEEP_CRON,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Upkeep of stores and of Dagster's own runs, every night at 03:30.",
)


def main(arguments: list[str]) -> None:
    """Delete the runs that are older than a number of days: what `cortex prune` starts as a process of its own."""
    with dg.DagsterInstance.get() as instance:
        told: Mapping[str, int] = {"runs": delete_old_runs(instance, int(arguments[0]))}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
