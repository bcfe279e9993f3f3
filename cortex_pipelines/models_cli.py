"""`cortex models`: which models there are for a machine, their download, and whether what is there is whole."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cortex_pipelines.errors import CortexError
from cortex_pipelines.terminal import as_json, one_line_errors, visible

if TYPE_CHECKING:
    from cortex_pipelines.models.downloads import Failure, Outcome, Plan, Report
    from cortex_pipelines.models.hub import Hub
    from cortex_pipelines.models.lock import Lock
    from cortex_pipelines.models.manifest import Choice, Model
    from cortex_pipelines.settings import Settings

PROFILES = ("laptop", "strix", "nvidia")
KINDS = ("vllm", "gguf", "embeddings")

_OPTIONS = (
    click.option(
        "--profile", default="laptop", show_default=True, type=click.Choice(PROFILES), help="The kind of machine."
    ),
    click.option("--models-dir", type=click.Path(path_type=Path), help="Where models lie (default: ARGOS_MODELS_DIR)."),
    click.option("--manifest", type=click.Path(path_type=Path), help="A manifest of yours instead of the package's."),
    click.option(
        "--accept-licence", "accepted", multiple=True, metavar="NAME", help="Accept a non-commercial licence, by name."
    ),
    *(click.option(f"--skip-{kind}", is_flag=True, help=f"Leave out the models in {kind}/.") for kind in KINDS),
)


def _choosing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which models a command is about, and where."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def models() -> None:
    """The models that lanes run on: what to download for this machine, and whether it is whole.

    A manifest says which models there are. Files come from the hub, or from the mirror that HF_ENDPOINT names.
    """


@models.command()
@_choosing
@click.option("--dry-run", is_flag=True, help="Show what would be downloaded, and write nothing.")
@click.option("--verify", "only_verify", is_flag=True, help="Download nothing: read what is there, as `verify` does.")
@click.option("--pin", "only_pin", is_flag=True, help="Download nothing: write what the hub says into the lock file.")
@as_json
@one_line_errors
def download(dry_run: bool, only_verify: bool, only_pin: bool, as_json: bool, **chosen: Any) -> None:
    """Download the models of a profile; what was begun goes on, what is there and whole stays.

    Exits with 1 when something could not be had. Models with a non-commercial licence are left out unless it is
    accepted by name; gated ones need HF_TOKEN.
    """
    from cortex_pipelines.models.downloads import download as fetch
    from cortex_pipelines.models.downloads import only_download, pin, plan, require_space

    if dry_run + only_verify + only_pin > 1:
        raise CortexError("choose one of --dry-run, --verify and --pin")
    wanted = _Wanted(**chosen)
    if only_verify:
        return _verify(wanted, as_json)
    for choice in wanted.choices:
        if choice.left_out and choice.notable:
            click.echo(f"{choice.model.name}: left out, {choice.left_out}", err=True)
    hub = wanted.hub()
    if dry_run:
        return _tell_plan(plan(wanted.models, wanted.folder, hub, wanted.lock()), wanted, as_json)
    with only_download(wanted.folder):
        lock = wanted.lock()
        if only_pin:
            pinned, failures = pin(wanted.models, hub, lock)
            told = {"pinned": [one.model_dump(mode="json") for one in pinned], "failures": _plain(failures)}
            _tell_failures(failures)
            lines = [f"{one.repository} at {one.commit}: {len(one.files)} files" for one in pinned]
            click.echo(json.dumps(told) if as_json else "\n".join([*lines, f"pinned in {lock.path}"]))
            sys.exit(1 if failures else 0)
        planned = plan(wanted.models, wanted.folder, hub, lock)
        _tell_failures(planned.failures)
        require_space(planned, wanted.folder)
        with _progress(quiet=as_json) as report:
            outcomes = fetch(planned, wanted.folder, hub, lock, report)
    _tell(outcomes, planned.failures, as_json)
    return None


@models.command()
@_choosing
@as_json
@one_line_errors
def verify(as_json: bool, **chosen: Any) -> None:
    """Read every file of a profile's models and compare it with the lock file. Nobody is asked.

    Exits with 1 when a file is missing or wrong; the next `download` mends it.
    """
    _verify(_Wanted(**chosen), as_json)


@models.command(name="list")
@_choosing
@as_json
@one_line_errors
def list_models(as_json: bool, **chosen: Any) -> None:
    """List a profile's models: lane, licence, what is there, what would be left out, and what is not pinned."""
    from cortex_pipelines.models.downloads import free_bytes

    wanted = _Wanted(**chosen)
    lock = wanted.lock()
    rows = []
    for choice in wanted.choices:
        held = lock.of(choice.model)
        there = sum(file.verified for file in held.files) if held else 0
        rows.append(
            {
                **choice.model.model_dump(mode="json"),
                "folder": choice.model.folder,
                "left_out": choice.left_out,
                "pinned_by": "manifest" if choice.model.pinned else "lock" if held else None,
                "files_there": there,
                "files_of": len(held.files) if held else None,
            }
        )
    if as_json:
        told = {"profile": chosen["profile"], "models_dir": str(wanted.folder), "models": rows}
        click.echo(json.dumps(told | {"free_bytes": free_bytes(wanted.folder)}))
        return
    for row in rows:
        click.echo(f"{click.style(row['name'], bold=True)}  {row['lane']}  {row['folder']}/")
        pinned = f"pinned by the {row['pinned_by']}" if row["pinned_by"] else "not pinned yet"
        state = f"{row['files_there']} of {row['files_of']} files there" if row["files_of"] else "not there"
        click.echo(f"    {visible(row['repository'])} at {row['revision']}, {pinned}, {state}")
        click.echo(f"    {row['licence']}{', gated' if row['gated'] else ''}: {' '.join(row['why'].split())}")
        if row["left_out"]:
            click.echo(f"    left out: {row['left_out']}")


class _Wanted:
    """What the options and the settings come to."""

    def __init__(
        self,
        profile: str,
        models_dir: Path | None,
        manifest: Path | None,
        accepted: tuple[str, ...],
        **skipped: bool,
    ) -> None:
        from cortex_pipelines.models.manifest import Kind, Profile, choose, load_manifest
        from cortex_pipelines.settings import load_settings

        self._settings: Settings = load_settings()
        self.folder: Path = models_dir or self._settings.models_dir
        if self.folder.exists() and not self.folder.is_dir():
            raise CortexError(f"{self.folder} is no folder: --models-dir or ARGOS_MODELS_DIR says where models lie")
        self.choices: tuple[Choice, ...] = choose(
            load_manifest(manifest),
            Profile(profile),
            self._settings.downloads,
            frozenset(Kind(name.removeprefix("skip_")) for name, left_out in skipped.items() if left_out),
            frozenset(licence.lower() for licence in accepted),
        )

    @property
    def models(self) -> list["Model"]:
        """The models that are not left out."""
        return [choice.model for choice in self.choices if choice.left_out is None]

    def lock(self) -> "Lock":
        """What is known of the models that are there."""
        from cortex_pipelines.models.lock import Lock

        return Lock(self.folder)

    def hub(self) -> "Hub":
        """The hub, asked with the token of the settings."""
        from cortex_pipelines.models.hub import Hub

        token = self._settings.hf_token
        return Hub(token.get_secret_value() if token else None, os.environ.get("HF_ENDPOINT") or None)


def _verify(wanted: _Wanted, as_json: bool) -> None:
    from cortex_pipelines.models.downloads import verify as examine

    lock = wanted.lock()
    # What was downloaded under an accepted licence is looked at without accepting it again.
    chosen = [c.model for c in wanted.choices if c.left_out is None or (c.notable and lock.of(c.model))]
    with _progress(quiet=as_json) as report:
        outcomes = examine(chosen, wanted.folder, lock, report)
    _tell(outcomes, (), as_json)


def _tell_plan(planned: "Plan", wanted: _Wanted, as_json: bool) -> None:
    from cortex_pipelines.models.downloads import amount, require_space

    _tell_failures(planned.failures)
    if as_json:
        files = [
            {"place": i.place, "size": i.file.size, "there": i.there, "done": i.done, "sha256": i.file.sha256}
            for i in planned.items
        ]
        told = {"files": files, "missing_bytes": planned.missing_bytes, "free_bytes": planned.free_bytes}
        click.echo(json.dumps(told | {"failures": _plain(planned.failures)}))
    for item in () if as_json else planned.items:
        state = "there" if item.done else f"begun, {amount(item.there)} there" if item.there else "to download"
        click.echo(f"{visible(item.place)}  {amount(item.file.size)}  {state}")
    if not as_json:
        click.echo(
            f"{amount(planned.missing_bytes)} to download into {wanted.folder}, {amount(planned.free_bytes)} free"
        )
    require_space(planned, wanted.folder)
    if planned.failures:
        sys.exit(1)


def _tell(outcomes: Sequence["Outcome"], failures: Sequence["Failure"], as_json: bool) -> None:
    from cortex_pipelines.models.downloads import amount

    bad = [outcome for outcome in outcomes if outcome.reason]
    if as_json:
        click.echo(json.dumps({"files": [asdict(outcome) for outcome in outcomes], "failures": _plain(failures)}))
    for outcome in () if as_json else outcomes:
        if outcome.reason:
            click.echo(f"{visible(outcome.place)}  {outcome.state}: {visible(outcome.reason)}", err=True)
        else:
            click.echo(f"{visible(outcome.place)}  {outcome.state}  {amount(outcome.size)}")
    if not as_json and not outcomes and not failures:
        click.echo("nothing to do: every model is left out", err=True)
    if bad or failures:
        sys.exit(1)


def _tell_failures(failures: Sequence["Failure"]) -> None:
    for failure in failures:
        click.echo(f"{failure.place}: {visible(failure.reason)}", err=True)


def _plain(failures: Sequence["Failure"]) -> list[dict[str, str]]:
    return [asdict(failure) for failure in failures]


@contextmanager
def _progress(quiet: bool) -> Iterator["Report"]:
    """Bars on a terminal, nothing elsewhere: the outcomes are told at the end."""
    if quiet or not sys.stderr.isatty():
        yield lambda place, there, size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
    tasks: dict[str, Any] = {}
    with Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bars:

        def report(place: str, there: int, size: int) -> None:
            if place not in tasks:
                tasks[place] = bars.add_task(visible(place), total=size, completed=there)
            bars.update(tasks[place], completed=there)

        yield report
