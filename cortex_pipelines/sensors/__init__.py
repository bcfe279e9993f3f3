"""What starts runs: dropped files, new commits, and the weekly audit. What watches lanes: their health."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import dagster as dg

from cortex_pipelines.ingest.watch import Glance, Watch
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.reading.audits import PRODUCT as DEEP
from cortex_pipelines.reading.audits import WINDOW_BYTES
from cortex_pipelines.resources import QUIET_TAG
from cortex_pipelines.settings import Settings

# A request costs the daemon a round trip and some commits; a tick ends after 60 s.
REQUESTS_PER_TICK = 50
# The daemon looks every five seconds which sensors are due.
LOOK_SECONDS = 4
# A tick waits so long for something to ask for, where it holds up no other sensor: a dropped file is asked for as soon
# as it has come to rest. It ends just before the daemon looks again, so that hardly a moment is unwatched, and soon
# enough for whoever ends Dagster, which waits for it.
WAIT_SECONDS = 9

AUDIT_CRON = "0 5 * * 1"
AUDIT_JOB = dg.define_asset_job(
    "audit", dg.AssetSelection.all(), description="Every product of a project, whatever it was that changed."
)

Automation = tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]


def project_automation(settings: Settings, projects: dg.PartitionsDefinition[str]) -> Automation:
    """The sensors and the schedule over the projects of an inbox; all are on from the start."""

    def watching(name: str, what: str, description: str) -> dg.SensorDefinition:
        @dg.sensor(
            name=name,
            target=dg.AssetSelection.all(),
            minimum_interval_seconds=LOOK_SECONDS,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description=description,
        )
        def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
            return _requests(context, settings, projects, what)

        return look

    dropped_files = watching(
        "dropped_files", "files", "Asks for a project when its files are new, changed or gone, and no longer grow."
    )
    new_commits = watching(
        "new_commits",
        "repositories",
        "Asks for a project, deep audits included, when a repository of it has another head commit.",
    )

    @dg.schedule(
        name="weekly_audit",
        job=AUDIT_JOB,
        cron_schedule=AUDIT_CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every product of every project, on Mondays at 05:00.",
    )
    def weekly_audit(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        at = context.scheduled_execution_time.date().isoformat()
        for project in settings.projects or projects.get_partition_keys(dynamic_partitions_store=context.instance):
            yield dg.RunRequest(run_key=f"{project}@{at}", partition_key=project)

    return [dropped_files, new_commits], [weekly_audit]


def _requests(
    context: dg.SensorEvaluationContext, settings: Settings, projects: dg.PartitionsDefinition[str], what: str
) -> dg.SensorResult | dg.SkipReason:
    """At most `REQUESTS_PER_TICK` requests, for projects after the one that the last tick ended with."""
    until = time.monotonic() + _wait_seconds(context)
    cursor = context.cursor or ""
    with Watch(settings.inbox, settings.state, settings.projects, at_once=time.monotonic() < until) as watch:
        if watch.fault:
            context.log.warning(watch.fault)
        while True:
            seen = watch.look(until - time.monotonic())
            asked = (_request(project, seen[project], what) for project in _from(sorted(seen), cursor))
            requests = list(islice(filter(None, asked), REQUESTS_PER_TICK))
            added = _added(context, projects, watch.projects())
            growing = any(glance.growing for glance in seen.values())
            # What is added and grows is asked for in a moment, by the same tick.
            if requests or (added and not growing) or time.monotonic() >= until:
                break
    if not requests and not added:
        return dg.SkipReason(f"{len(watch.projects())} projects, nothing new that is at rest")
    last = str(requests[-1].partition_key) if requests else cursor
    return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=added, cursor=last)


def _wait_seconds(context: dg.SensorEvaluationContext) -> float:
    """A tick may wait where the daemon gives each sensor a thread; elsewhere all the others would wait with it."""
    return WAIT_SECONDS if context.instance.get_sensor_settings().get("use_threads") else 0.0


def _added(
    context: dg.SensorEvaluationContext, projects: dg.PartitionsDefinition[str], found: Sequence[str]
) -> list[dg.AddDynamicPartitionsRequest]:
    """All that are there and no partitions yet: one that was run by the command can be materialized by hand too."""
    if not isinstance(projects, dg.DynamicPartitionsDefinition):
        return []
    known = set(projects.get_partition_keys(dynamic_partitions_store=context.instance))
    names = [name for name in found if name not in known]
    return [projects.build_add_request(names)] if names else []


def _request(project: str, seen: Glance, what: str) -> dg.RunRequest | None:
    """What to ask for, if anything; what both sensors see, one of them asks for."""
    if what == "repositories":
        if not seen.repositories:
            return None
        deep = True
    elif not seen.files or seen.repositories:
        return None
    else:
        deep = seen.largest > WINDOW_BYTES
    return dg.RunRequest(
        run_key=f"{project}@{seen.fingerprint}",
        partition_key=project,
        asset_selection=[dg.AssetKey(product.name) for product in PRODUCTS if deep or product.name != DEEP],
        tags={QUIET_TAG: "yes"},
    )


def _from(names: Sequence[str], cursor: str) -> Sequence[str]:
    """The names, those behind the cursor first, so that none has to wait for ever."""
    later = [name for name in names if name > cursor]
    return [*later, *(name for name in names if name <= cursor)]
