"""`cortex backup`, `restore`, `prune` and `doctor`: keeping an installation alive."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cortex_pipelines.errors import CortexError
from cortex_pipelines.terminal import as_json, one_line_errors, visible

# Nothing is told of what takes no longer.
QUIET_SECONDS = 2.0
RUN_DAYS = 30
_COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


@click.command()
@click.argument("target", metavar="FOLDER_OR_FILE")
@as_json
@one_line_errors
def backup(target: str, as_json: bool) -> None:
    """Write store, reports, kept answers of models and the Dagster instance into one file.

    Runs may go on meanwhile: each project is in it as of one publication. In a folder the file is named by the time.
    A store on S3 and runs in PostgreSQL are not in it; how to keep them is told.
    """
    from cortex_pipelines.operations.backup import make_backup
    from cortex_pipelines.settings import load_settings

    if target.endswith("/") and not Path(target).is_dir():
        raise CortexError(f"{target} is no folder: create it, or name another place for the backup")
    done = make_backup(Path(target), load_settings(), _progress("backup", as_json))
    if as_json:
        click.echo(json.dumps(done.as_json()))
        return
    for note in done.notes:
        click.echo(f"cortex: {visible(note)}", err=True)
    click.echo(f"{done.path}: {_counted(done.projects)}, {done.files} files, {done.size / 1e6:.1f} MB")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a store, reports and runs that are there.")
@as_json
@one_line_errors
def restore(file: Path, force: bool, as_json: bool) -> None:
    """Bring back what `cortex backup` wrote into FILE, whole or not at all. Stop Dagster before."""
    from cortex_pipelines.operations.restore import restore_backup
    from cortex_pipelines.settings import load_settings

    done = restore_backup(file, load_settings(), force, _progress("restore", as_json))
    if as_json:
        click.echo(json.dumps(done.as_json()))
        return
    for note in done.notes:
        click.echo(f"cortex: {visible(note)}", err=True)
    click.echo(f"{_counted(done.projects)} as of {visible(done.made)}, {done.files} files")


@click.command()
@click.option(
    "--run-days", default=RUN_DAYS, show_default=True, type=click.IntRange(0), help="Runs of Dagster are kept so long."
)
@as_json
@one_line_errors
def prune(run_days: int, as_json: bool) -> None:
    """Remove what is no longer needed: old versions, leftovers of killed runs, old runs of Dagster.

    What is published stays as it is. Dagster's runs go where DAGSTER_HOME is set, but the newest of each project.
    """
    from cortex_pipelines.operations.pruning import prunable_projects, prune_leftovers, prune_project
    from cortex_pipelines.settings import load_settings

    settings = load_settings()
    projects = prunable_projects(settings)
    progress = _progress("prune", as_json)
    done = []
    for number, project in enumerate(projects):
        progress(number, len(projects))
        done.append(prune_project(project, settings))
    leftovers = prune_leftovers(settings) + sum(one.leftovers for one in done)
    runs = _prune_runs(run_days)
    if as_json:
        told = {"projects": [one.as_json() for one in done], "leftovers": leftovers, "runs": runs}
        click.echo(json.dumps(told))
        return
    for one in done:
        click.echo(f"{one.project}: {len(one.compacted)} tables compacted, {one.freed_bytes / 1e6:.1f} MB freed")
    click.echo(f"{leftovers} leftovers of killed processes removed")
    click.echo("no DAGSTER_HOME: no runs to delete" if runs is None else f"{runs} runs of Dagster deleted")


@click.command()
@click.option("--no-servers", is_flag=True, help="Ask no model server what it is.")
@as_json
@one_line_errors
def doctor(no_servers: bool, as_json: bool) -> None:
    """Look at everything this installation stands on, and say how to mend what is not well.

    Exits with 1 when something is a fault. `cortex lanes doctor` looks at model servers more closely.
    """
    from cortex_pipelines.operations.checkup import Verdict, check_lanes, check_up
    from cortex_pipelines.settings import load_settings

    settings = load_settings()
    rows = check_up(settings)
    if not no_servers:
        rows += check_lanes(settings)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
    for row in () if as_json else rows:
        verdict = click.style(f"{row.verdict:<7}", fg=_COLOURS[row.verdict])
        click.echo(f"{verdict}  {visible(row.name)}: {visible(row.found)}")
        if row.fix:
            click.echo(f"         {click.style('fix', bold=True)} {visible(row.fix)}")
    if any(row.verdict is Verdict.FAULT for row in rows):
        sys.exit(1)


def _prune_runs(days: int) -> int | None:
    """Have old runs deleted, by a process of its own: Dagster is no part of this command. None without an instance."""
    import subprocess

    from cortex_pipelines.operations.instance import Instance

    instance = Instance.of_environment()
    if instance.fault:
        raise CortexError(f"{instance.fault}: mend it, or unset DAGSTER_HOME")
    if instance.home is None:
        return None
    command = [sys.executable, "-m", "cortex_pipelines.upkeep", str(days)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CortexError(f"the runs of Dagster in {instance.home} were not deleted: {last[:300]}")
    return int(json.loads(done.stdout.splitlines()[-1])["runs"])


def _counted(projects: dict[str, int]) -> str:
    return ", ".join(f"{name} at generation {number}" for name, number in projects.items()) or "no project"


def _progress(what: str, quiet: bool) -> Callable[[int, int], Any]:
    """A line that moves once it takes long, on a terminal; nothing elsewhere."""
    started = time.monotonic()
    if quiet or not sys.stderr.isatty():
        return lambda done, of: None

    def moving(done: int, of: int) -> None:
        if done >= of:
            click.echo("\r\033[K", nl=False, err=True)
        elif time.monotonic() - started > QUIET_SECONDS:
            click.echo(f"\r\033[K{what}: {done * 100 // max(of, 1)} %", nl=False, err=True)

    return moving
