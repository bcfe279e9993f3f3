"""`cortex lanes`: where each lane goes, whether its servers are well, and one question to one of them."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cortex_pipelines.errors import CortexError
from cortex_pipelines.terminal import as_json, one_line_errors, visible

if TYPE_CHECKING:
    from cortex_pipelines.lanes import Lanes
    from cortex_pipelines.lanes.doctor import Examined

NAMES = ("ORCHESTRATOR", "CODER", "SUPER_READER", "FAST_RAG", "GOVERNANCE")
of_lane = click.argument("lane", type=click.Choice(NAMES, case_sensitive=False))


@click.group()
def lanes() -> None:
    """The model lanes: where each goes, and how its servers are.

    A lane is an intent that a model server of yours serves; ARGOS_* variables say which. With none set,
    everything runs without a model.
    """


@lanes.command()
@as_json
@one_line_errors
def show(as_json: bool) -> None:
    """Show each lane, its endpoints in order, and what is known of them. Nothing is asked of a server."""
    from cortex_pipelines.lanes import LaneUnresolved
    from cortex_pipelines.names import Lane

    ours = _lanes()
    rows: dict[str, Any] = {}
    for lane in Lane:
        try:
            resolved = ours.resolve(lane)
        except LaneUnresolved as error:
            rows[lane] = {"unresolved": str(error)}
            continue
        statuses = [(endpoint, ours.health.status(endpoint.name, endpoint.model)) for endpoint in resolved.endpoints]
        rows[lane] = {
            "served_by": resolved.served_by,
            "endpoints": [
                {
                    "endpoint": endpoint.name,
                    "model": endpoint.model,
                    "state": status.state,
                    "reason": status.reason,
                    "in_flight": status.in_flight,
                    "limit": status.limit,
                }
                for endpoint, status in statuses
            ],
        }
    if as_json:
        click.echo(json.dumps(rows))
        return
    for name, row in rows.items():
        if "unresolved" in row:
            click.echo(f"{name:<13} {click.style('no model', dim=True)}")
        for place in row.get("endpoints", ()):
            via = "" if row["served_by"] == name else f"  (of {row['served_by'] or 'ARGOS_LLM'})"
            reason = f" after {place['reason']}" if place["reason"] and place["state"] != "ready" else ""
            click.echo(
                f"{name:<13} {visible(place['endpoint'])}  {visible(place['model'] or 'whatever it serves')}  "
                f"{_coloured(place['state'])}{visible(reason)}{via}"
            )
    if all("unresolved" in row for row in rows.values()):
        click.echo(
            "No lane has a server: everything runs without a model. docs/lanes.md says how to set one.", err=True
        )


@lanes.command()
@of_lane
@as_json
@one_line_errors
def explain(lane: str, as_json: bool) -> None:
    """Explain where a call of LANE goes: the chain in order, and which variable gave each value."""
    from cortex_pipelines.lanes import chain
    from cortex_pipelines.names import Lane
    from cortex_pipelines.settings import load_settings

    settings = load_settings()
    _lanes().resolve(Lane(lane))
    steps: list[dict[str, Any]] = [
        {
            "served_by": step.served_by,
            "endpoints": [endpoint.name for endpoint in step.endpoints],
            "model": step.endpoints[0].model,
            "backend": step.endpoints[0].backend,
            "origins": {part: {"variable": o.variable, "source": o.source} for part, o in step.origins.items()},
        }
        for step in chain(settings, Lane(lane))
    ]
    if as_json:
        click.echo(json.dumps({"lane": lane, "chain": steps}))
        return
    for number, step in enumerate(steps, 1):
        whose = "the default endpoint" if step["served_by"] is None else f"the lane {step['served_by']}"
        click.echo(click.style(f"{number}. {whose}", bold=True))
        for name in step["endpoints"]:
            click.echo(f"   {visible(name)}")
        for part, origin in step["origins"].items():
            value = step.get(part, "set" if part == "api_key" and origin["source"] != "default" else None)
            shown = ", ".join(step["endpoints"]) if part == "url" else str(value) if value else "-"
            source = click.style(f"{origin['variable']} ({origin['source']})", dim=True)
            click.echo(f"   {part:<10} {visible(shown)}  {source}")
    click.echo("A call goes on to the next when an endpoint fails, is shut, or has too small a window.")


@lanes.command()
@click.option("--quick", is_flag=True, help="Ask no server for a token, only what it is.")
@as_json
@one_line_errors
def doctor(quick: bool, as_json: bool) -> None:
    """Ask every server what it is, and for one token. Exits with 1 when something is wrong."""
    from cortex_pipelines.lanes.client import run
    from cortex_pipelines.lanes.doctor import examine

    ours = _lanes()
    found = run(examine(ours, ours.folder / "served.json", tokens=not quick))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], default=str))
    for one in () if as_json else found:
        _tell(one)
    if any(one.fault for one in found):
        sys.exit(1)


@lanes.command()
@of_lane
@as_json
@one_line_errors
def load(lane: str, as_json: bool) -> None:
    """Have LANE's first model in memory and answering; models used longest ago make room for it.

    Works where its server can be told: vLLM's sleep mode, llama.cpp's router, llama-swap. A call does it by itself.
    """
    _move(lane, "loaded", as_json)


@lanes.command()
@of_lane
@as_json
@one_line_errors
def unload(lane: str, as_json: bool) -> None:
    """Let go of LANE's first model when its calls have ended. The next call of the lane loads it again."""
    _move(lane, "let go", as_json)


@lanes.command()
@of_lane
@click.argument("prompt")
@click.option("--max-tokens", default=500, show_default=True, type=click.IntRange(1), help="The most of an answer.")
@click.option("--timeout", default=120.0, show_default=True, type=click.FloatRange(0.1), help="Seconds in all.")
@as_json
@one_line_errors
def ask(lane: str, prompt: str, max_tokens: int, timeout: float, as_json: bool) -> None:
    """Ask LANE a PROMPT; the answer goes to the output, the trail of attempts to the error output."""
    from cortex_pipelines.names import Lane

    messages = [{"role": "user", "content": prompt}]
    done = _lanes().complete(Lane(lane), messages, max_tokens=max_tokens, timeout=timeout)
    if as_json:
        click.echo(json.dumps(asdict(done), ensure_ascii=False))
        return
    for attempt in done.attempts:
        click.echo(f"{attempt.endpoint}: {attempt.outcome} {visible(attempt.detail)}".rstrip(), err=True)
    click.echo(visible(done.text))


@lanes.command()
@click.argument("models", nargs=-1)
@click.option("--budget", help="Memory for each model, such as 64GB (default: this machine's memory).")
@click.option("--bandwidth", help="What the memory reads a second, such as 256GB: gives the most tokens a second.")
@click.option("--window", type=click.IntRange(1), help="The window that has to fit, in tokens.")
@click.option(
    "--cache", default="f16", show_default=True, type=click.Choice(("f16", "q8_0", "q4_0")), help="Its KV type."
)
@as_json
@one_line_errors
def plan(
    models: tuple[str, ...], budget: str | None, bandwidth: str | None, window: int | None, cache: str, as_json: bool
) -> None:
    """Compute what MODELS take in memory: GGUF files, or folders with a config.json.

    Without MODELS, those that ARGOS_LANE_*_MODEL_PATH name. Exits with 1 when the window does not fit.
    """
    import os
    from pathlib import Path

    from cortex_pipelines.lanes.memory import CacheType, CannotFit, fit, read_geometry, require_fit
    from cortex_pipelines.names import Lane
    from cortex_pipelines.settings import load_settings

    settings = load_settings()
    chosen = {model: Path(model) for model in models}
    for lane in () if models else Lane:
        if path := settings.lanes[lane].model_path:
            chosen[f"{lane} {path}"] = path
    if not chosen:
        raise CortexError("name a model, or set ARGOS_LANE_<LANE>_MODEL_PATH: a GGUF file or a folder with config.json")
    room = _bytes("--budget", budget) if budget else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    speed = _bytes("--bandwidth", bandwidth) if bandwidth else 0
    kind = CacheType(cache)
    rows: dict[str, Any] = {}
    refused = []
    for name, path in chosen.items():
        planned = fit(read_geometry(path), room, speed)
        geometry = planned.geometry
        rows[name] = {
            "weights_bytes": geometry.weights_bytes,
            "active_bytes": geometry.active_bytes,
            "overhead_bytes": planned.overhead_bytes,
            "budget_bytes": room,
            "trained_window": geometry.window,
            "kv_bytes_per_token": {cached: geometry.kv_bytes_per_token(cached, cached) for cached in CacheType},
            "window": dict(planned.windows),
            "tokens_per_second": {
                cached: [round(planned.speed(cached, filled), 1) for filled in (0, planned.windows[cached])]
                for cached in CacheType
            }
            if speed
            else None,
            "arithmetic": planned.arithmetic(kind, window or planned.windows[kind]),
        }
        if window:
            try:
                require_fit(planned, kind, window)
            except CannotFit as error:
                refused.append(str(error))
    if as_json:
        click.echo(json.dumps({"models": rows, "refused": refused}))
    for name, row in () if as_json else rows.items():
        _tell_plan(name, row)
    if len(rows) > 1 and not as_json:
        click.echo(f"all together: {sum(row['weights_bytes'] for row in rows.values()) / 1e9:.1f} GB of weights")
    for line in refused:
        click.echo(f"cortex: {visible(line)}", err=True)
    if refused:
        sys.exit(1)


@lanes.command()
@as_json
@one_line_errors
def metrics(as_json: bool) -> None:
    """Print the counters of every endpoint, of all processes of this machine, as Prometheus reads them."""
    from cortex_pipelines.lanes.metrics import counters, prometheus

    statuses = _lanes().health.statuses()
    click.echo(json.dumps(counters(statuses)) if as_json else prometheus(statuses), nl=as_json)


def _lanes() -> "Lanes":
    from cortex_pipelines.lanes import Lanes
    from cortex_pipelines.settings import load_settings

    return Lanes(load_settings())


def _move(lane: str, what: str, as_json: bool) -> None:
    from cortex_pipelines.lanes.client import run
    from cortex_pipelines.names import Lane

    ours = _lanes()
    endpoint, residency = ours.resolve(Lane(lane)).endpoints[0], ours.residency
    done = run(residency.load(endpoint) if what == "loaded" else residency.unload(endpoint))
    if as_json:
        click.echo(json.dumps({"endpoint": endpoint.name, "model": endpoint.model, "changed": done}))
        return
    model = visible(f"{endpoint.model or 'its model'} at {endpoint.name}")
    click.echo(f"{model}: {what}" if done else f"{model}: as it was; `cortex lanes doctor` says whether it can be told")


def _tell(one: "Examined") -> None:
    names = ", ".join(one.lanes)
    if not one.endpoint:
        click.echo(f"{click.style(names, bold=True)}  {click.style(visible(one.fix), dim=True)}")
    else:
        verdict = click.style("ill", fg="red") if one.fault else click.style("well", fg="green")
        click.echo(f"{click.style(names, bold=True)}  {visible(one.endpoint)}  {verdict}")
    if one.served:
        server = " ".join(filter(None, (str(one.backend or "an unknown server"), one.version)))
        parts = [server, f"model {', '.join(one.served[:3])}"]
        parts += [f"window {one.window:,} tokens"] if one.window else ["window not told"]
        parts += [f"{one.slots} {'slot' if one.slots == 1 else 'slots'}"] if one.slots else []
        parts += [f"a token in {one.seconds} s"] if one.seconds is not None else []
        click.echo(f"    {visible(', '.join(parts))}")
        if one.keeper:
            click.echo(f"    {'in memory' if one.in_memory else 'not in memory'}; kept by {one.keeper}")
        click.echo(f"    structured output: {one.structured}; counts prompts: {one.counts_prompts}")
    for change in one.drift:
        click.echo(f"    {click.style('changed', fg='yellow')} {visible(change)}")
    if one.fault:
        click.echo(f"    {visible(one.fault)}")
        click.echo(f"    {click.style('fix', bold=True)} {visible(one.fix)}")


def _tell_plan(name: str, row: dict[str, Any]) -> None:
    click.echo(click.style(visible(name), bold=True))
    trained = f", made for {row['trained_window']:,} tokens" if row["trained_window"] else ""
    click.echo(
        f"    {row['weights_bytes'] / 1e9:.1f} GB of weights, {row['active_bytes'] / 1e9:.1f} GB a token{trained}"
    )
    for kind, each in row["kv_bytes_per_token"].items():
        line = f"    {kind:<5} {each:>9,} bytes a token, {row['window'][kind]:>10,} tokens fit"
        if row["tokens_per_second"]:
            empty, full = row["tokens_per_second"][kind]
            line += f", at most {empty} tokens/s empty and {full} full"
        click.echo(line)
    click.echo(f"    {visible(row['arithmetic'])}")


def _bytes(option: str, value: str) -> int:
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError:
        raise CortexError(f"{option}={visible(value)} is no number of bytes: write it as 64GB") from None


def _coloured(state: str) -> str:
    colours = {"ready": "green", "unknown": None, "saturated": "yellow", "overloaded": "yellow", "loading": "yellow"}
    return click.style(state, fg=colours.get(state, "red"))
