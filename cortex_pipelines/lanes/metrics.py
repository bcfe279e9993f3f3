"""The counters of every endpoint as Prometheus reads them, of all processes of the machine together."""

from collections.abc import Callable, Iterable

from cortex_pipelines.lanes.health import State, Status

_SHUT = (State.OPEN, State.PROBING, State.MISCONFIGURED)

# Name, type, help, and where the value stands.
METRICS: tuple[tuple[str, str, str, Callable[[Status], float]], ...] = (
    ("attempts_total", "counter", "Attempts at an endpoint.", lambda s: s.record.attempts),
    ("answered_total", "counter", "Attempts that were answered.", lambda s: s.record.answered),
    ("failed_total", "counter", "Attempts that failed by the server's fault.", lambda s: s.record.failed),
    ("overloaded_total", "counter", "Attempts that the server was too busy for.", lambda s: s.record.overloaded),
    ("prompt_tokens_total", "counter", "Tokens of prompts, as the server counts.", lambda s: s.record.prompt_tokens),
    ("completion_tokens_total", "counter", "Tokens of answers.", lambda s: s.record.completion_tokens),
    ("attempt_seconds_total", "counter", "Seconds that attempts took.", lambda s: round(s.record.seconds, 6)),
    ("in_flight", "gauge", "Calls under way.", lambda s: s.in_flight),
    ("limit", "gauge", "Calls that may be under way at once.", lambda s: s.limit),
    ("shut", "gauge", "1 where calls pass by: open, probing or misconfigured.", lambda s: float(s.state in _SHUT)),
)


def counters(statuses: Iterable[Status]) -> list[dict[str, str | float]]:
    """The same numbers, a row for each endpoint."""
    return [
        {"endpoint": status.name, "model": status.model, "state": str(status.state)}
        | {name: value(status) for name, _, _, value in METRICS}
        for status in statuses
    ]


def prometheus(statuses: Iterable[Status]) -> str:
    """The text format, version 0.0.4: the numbers count from when the machine's first call was made."""
    known = list(statuses)
    lines = []
    for name, kind, told, value in METRICS:
        lines += [f"# HELP cortex_lane_{name} {told}", f"# TYPE cortex_lane_{name} {kind}"]
        for status in known:
            labels = f'endpoint="{_escaped(status.name)}",model="{_escaped(status.model)}"'
            lines.append(f"cortex_lane_{name}{{{labels}}} {value(status):g}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
