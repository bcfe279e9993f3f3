"""The state of each lane in the Dagster UI: an asset that is only watched, with a check that warns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from cortex_pipelines.alerts import Alert, configured, send
from cortex_pipelines.lanes import Lanes
from cortex_pipelines.lanes.doctor import Examined, examine
from cortex_pipelines.lanes.health import State
from cortex_pipelines.names import Lane
from cortex_pipelines.resources.lane_board import DagsterBoard, lane_board
from cortex_pipelines.resources.warming import lanes_ahead
from cortex_pipelines.sensors import AUDIT_CRON
from cortex_pipelines.settings import Settings

LOOK_SECONDS = 60
CHECK = "answers"
# Beside the lanes, in the sensor's cursor: those that nobody answers.
_ILL = "ill"
WELL = (State.READY, State.SATURATED, State.UNKNOWN)


@dataclass(frozen=True)
class LaneWatch:
    """What the code location shows of lanes; nothing where no lane is configured."""

    assets: Sequence[dg.AssetSpec]
    checks: Sequence[dg.AssetChecksDefinition]
    sensors: Sequence[dg.SensorDefinition]


def lane_watch(settings: Settings) -> LaneWatch:
    """An asset for each lane with an endpoint of its own or a shared one, and the sensor that looks at them."""
    lanes = Lanes(settings)
    if not lanes.configured:
        return LaneWatch((), (), ())
    keys = {lane: dg.AssetKey(["lanes", lane.lower()]) for lane in Lane}
    specs = [
        dg.AssetSpec(key, group_name="lanes", description=f"Whether the servers of the lane {lane} are well.")
        for lane, key in keys.items()
    ]
    checks = [_check(lane, key, lanes) for lane, key in keys.items()]

    @dg.sensor(
        name="lane_health",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks every lane's servers what they are, shows what changed, and has models loaded that waiting "
        "runs and the next audit will need.",
        asset_selection=dg.AssetSelection.assets(*keys.values()),
    )
    def lane_health(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        before: dict[str, str] = json.loads(context.cursor or "{}")
        ill_before = before.pop(_ILL, "").split()
        seen = _by_lane(lanes, lane_board(settings, context.instance))
        now = datetime.now(UTC)
        lanes.residency.warm(lanes_ahead(context.instance, next_audit(now), now))
        found = {lane: _told(endpoints) for lane, endpoints in seen.items()}
        changed = [lane for lane in Lane if before.get(lane) != found[lane]]
        ill = [lane for lane in Lane if not _passed(seen[lane])]
        if configured(settings):
            for alert in _alerts(seen, ill_before, ill):
                for fault in send(settings, alert):
                    context.log.error(f"nobody was told that {alert.title}: {fault}")
        if not changed:
            return dg.SkipReason("no lane changed")
        events: list[dg.AssetObservation | dg.AssetCheckEvaluation] = []
        for lane in changed:
            events.append(dg.AssetObservation(keys[lane], metadata=_metadata(seen[lane])))
            events.append(_evaluation(keys[lane], seen[lane]))
        return dg.SensorResult(asset_events=events, cursor=json.dumps({**found, _ILL: " ".join(ill)}))

    return LaneWatch(specs, checks, (lane_health,))


def _alerts(seen: Mapping[Lane, list[Examined]], before: Sequence[str], ill: Sequence[Lane]) -> Iterator[Alert]:
    """One for each lane that nobody answers any more, and one when somebody does again."""
    for lane in ill:
        if lane not in before:
            lines = [f"{one.endpoint}: {one.fault or one.state}. {one.fix}" for one in seen[lane]]
            yield Alert(f"Cortex: no model answers for the lane {lane}", "\n".join(lines))
    for name in before:
        if name not in ill:
            yield Alert(f"Cortex: the lane {name} is answered again", "", resolved=True)


def next_audit(now: datetime) -> datetime | None:
    """When the weekly audit is due next."""
    # Dagster has no other public way to ask a cron schedule for its next tick.
    start = now - timedelta(days=14)
    weeks = dg.TimeWindowPartitionsDefinition(cron_schedule=AUDIT_CRON, start=start, fmt="%Y-%m-%d", end_offset=2)
    window = weeks.get_next_partition_window(now)
    return window.start if window else None


def _check(lane: Lane, key: dg.AssetKey, lanes: Lanes) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=key, name=CHECK, description=f"An endpoint of the lane {lane} can be asked.")
    def answers() -> dg.AssetCheckResult:
        endpoints = _by_lane(lanes)[lane]
        return dg.AssetCheckResult(
            passed=_passed(endpoints), severity=dg.AssetCheckSeverity.WARN, metadata=_metadata(endpoints)
        )

    return answers


def _evaluation(key: dg.AssetKey, endpoints: Sequence[Examined]) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=CHECK,
        passed=_passed(endpoints),
        severity=dg.AssetCheckSeverity.WARN,
        metadata=_metadata(endpoints),
    )


def _by_lane(lanes: Lanes, board: DagsterBoard | None = None) -> Mapping[Lane, list[Examined]]:
    from cortex_pipelines.lanes.client import run

    run(lanes.share(board))
    examined = run(examine(lanes, tokens=False))
    return {lane: [one for one in examined if lane in one.lanes] for lane in Lane}


def _passed(endpoints: Sequence[Examined]) -> bool:
    """One endpoint that can be asked is enough; a lane that has none is served without a model, which is no fault."""
    placed = [one for one in endpoints if one.endpoint]
    return not placed or any(not one.fault and one.state in WELL for one in placed)


def _told(endpoints: Sequence[Examined]) -> str:
    return "; ".join(f"{one.endpoint} {one.state} {one.fault} {one.version} {one.window}" for one in endpoints)


def _metadata(endpoints: Sequence[Examined]) -> dict[str, dg.MetadataValue]:
    columns = ("endpoint", "state", "server", "model", "window", "fault", "fix")
    rows = [
        dg.TableRecord(
            {
                "endpoint": one.endpoint or "none",
                "state": str(one.state),
                "server": " ".join(filter(None, (str(one.backend or ""), one.version))),
                "model": ", ".join(one.served[:3]) or one.model or "",
                "window": str(one.window or ""),
                "fault": one.fault,
                "fix": one.fix,
            }
        )
        for one in endpoints
    ]
    schema = dg.TableSchema([dg.TableColumn(name) for name in columns])
    return {"endpoints": dg.MetadataValue.table(rows, schema)}
