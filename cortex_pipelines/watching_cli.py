"""`cortex watch`, `status` and `retry`: runs as things land, what was not read and why, and another try."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from cortex_pipelines.errors import CortexError
from cortex_pipelines.terminal import as_json, one_line_errors, visible

if TYPE_CHECKING:
    from cortex_pipelines.running import Summary
    from cortex_pipelines.settings import Settings

# Something is looked at in any case once a minute; this is how long the command sleeps in between.
LOOK_SECONDS = 60.0
# An inbox that is gone may come back.
RETRY_SECONDS = 5.0
STAGES = ("documents", "repositories")

Say = Callable[..., None]


@click.command()
@click.argument("projects", nargs=-1)
@as_json
@one_line_errors
def watch(projects: tuple[str, ...], as_json: bool) -> None:
    """Build every product of PROJECTS, or of every project of the inbox, as soon as something landed and rests.

    Prints one line for each run, as JSON with --json. Ends with Ctrl-C or SIGTERM; what was read by then is kept.
    """
    from cortex_pipelines.projects import chosen_projects, find_projects
    from cortex_pipelines.settings import load_settings

    settings = load_settings()
    named = projects or settings.projects
    # To name one that is not there is a mistake; an inbox without any may get one.
    found = chosen_projects(settings.inbox, named) if named else find_projects(settings.inbox)
    for name, reason in found.refused.items():
        click.echo(f"cortex: {visible(name)} is left out, its name {reason}", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _watch(settings, found.projects if named else (), _say_json if as_json else _say_line)
    except KeyboardInterrupt:
        return


def _watch(settings: "Settings", named: tuple[str, ...], say: Say) -> None:
    from cortex_pipelines.ingest.watch import Watch

    with Watch(settings.inbox, settings.state, named) as watching:
        say("watching", inbox=str(settings.inbox), projects=list(watching.projects()))
        # What an earlier run was told of and did not finish looks unchanged: each is built once in any case.
        unfinished = set(watching.projects())
        built: dict[str, str] = {}
        fault = ""
        while True:
            if watching.fault not in ("", fault):
                say("warning", error=watching.fault)
            fault = watching.fault
            try:
                looked = watching.look(LOOK_SECONDS)
            except CortexError as error:
                say("error", error=str(error))
                time.sleep(RETRY_SECONDS)
                continue
            for project, seen in looked.items():
                # A file from the future looks changed after every run.
                news = seen.quiet and seen.fingerprint != built.get(project)
                if news or (project in unfinished and not seen.growing):
                    done = _run(project, settings, say)
                    (unfinished.discard if done else unfinished.add)(project)
                    built[project] = seen.fingerprint


def _run(project: str, settings: "Settings", say: Say) -> bool:
    """Build what rests of a project; whether it came to an end, with or without failed checks."""
    from cortex_pipelines.running import run_project

    try:
        summary = run_project(project, settings, quiet=True)
    except Exception as error:  # whatever it was, the other projects go on, and this one with the next look
        reason = str(error) if isinstance(error, CortexError) else f"{type(error).__name__}: {error}"
        say("error", project=project, error=" ".join(reason.split()))
        return False
    say("run", summary=summary)
    return True


def _say_line(event: str, project: str = "", error: str = "", summary: "Summary | None" = None, **told: Any) -> None:
    if summary is not None:
        click.echo(f"{datetime.now().astimezone():%H:%M:%S} {_told(summary)}")
    elif error:
        click.echo(f"cortex: {visible(f'{project}: ' if project else '')}{visible(error)}", err=True)
    else:
        names = ", ".join(told["projects"]) or "no project yet"
        click.echo(f"{event} {visible(told['inbox'])}: {names}")


def _say_json(event: str, summary: "Summary | None" = None, **told: Any) -> None:
    row = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **told}
    click.echo(json.dumps(row | (summary.as_json() if summary is not None else {}), ensure_ascii=False))


def _told(summary: "Summary") -> str:
    """A run in one line."""
    changed = [item.product.name for item in summary.built if item.outcome.changed]
    read = sum(int(item.outcome.metadata.get("read", 0)) for item in summary.built if item.product.name in STAGES)
    parts = [f"{read} read, changed {', '.join(changed)}" if changed else "nothing changed"]
    if summary.quarantine:
        parts.append(f"{len(summary.quarantine)} in quarantine: cortex status {summary.project}")
    parts += [f"FAILED check {failure}" for failure in summary.failed]
    return f"{summary.project}: {'; '.join(parts)} ({summary.seconds:.1f} s)"


@click.command()
@click.argument("projects", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="List every path, not the first of each reason.")
@click.option("--check", is_flag=True, help="Exit with 1 when something is in quarantine.")
@as_json
@one_line_errors
def status(projects: tuple[str, ...], everything: bool, check: bool, as_json: bool) -> None:
    """Tell what was read of PROJECTS, or of all, what waits, and what was not read, by reason and what to do."""
    from cortex_pipelines.projects import chosen_projects
    from cortex_pipelines.settings import load_settings

    settings = load_settings()
    found = chosen_projects(settings.inbox, projects or settings.projects)
    told = [_status(settings, project, everything) for project in found.projects]
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    for row in () if as_json else told:
        click.echo("\n".join(map(visible, _status_lines(row))))
    for name, reason in found.refused.items():
        click.echo(f"cortex: {visible(name)} is left out, its name {reason}", err=True)
    if check and any(row["quarantine"] for row in told):
        sys.exit(1)


def _status(settings: "Settings", project: str, everything: bool) -> dict[str, Any]:
    from cortex_pipelines.ingest.manifest import Manifest
    from cortex_pipelines.ingest.quarantine import FIRST, grouped
    from cortex_pipelines.ingest.watch import glance
    from cortex_pipelines.store import ProjectStore

    store = ProjectStore(settings.store, project, settings.state)
    snapshot = store.snapshot()
    with Manifest(settings.state / project / "manifest.db") as manifest:
        seen = glance(settings.inbox / project, manifest, time.time())
    rows = [(row["path"], row["reason"]) for row in snapshot.rows("quarantine", ["path", "reason"])]
    at = store.published_at()
    return {
        "project": project,
        "documents": snapshot.count("documents"),
        "repositories": snapshot.count("repositories"),
        "published_at": at.isoformat(timespec="seconds") if at else None,
        "changed": sorted((*seen.files, *seen.repositories, *seen.growing)),
        "staged": sum(len(store.staging(stage).items()) for stage in STAGES),
        "quarantined": len(rows),
        "quarantine": [group.told(None if everything else FIRST) for group in grouped(rows)],
    }


def _status_lines(row: dict[str, Any]) -> Iterator[str]:
    published = f", published {row['published_at']}" if row["published_at"] else ""
    yield f"{row['project']}: {row['documents']:,} documents, {row['repositories']:,} repositories{published}"
    if row["changed"]:
        yield f"  waits, {len(row['changed']):,}: new, changed or gone since the last run, such as {row['changed'][0]}"
    if row["staged"]:
        yield f"  waits, {row['staged']:,}: read, and not published yet"
    if row["quarantine"]:
        yield f"  not read, {row['quarantined']:,}:"
    for group in row["quarantine"]:
        yield f"    {group['reason']}, {group['count']:,}" + (f": {group['to_do']}" if group["to_do"] else "")
        yield from (f"      {path}" for path in group["paths"])
        if (more := group["count"] - len(group["paths"])) > 0:
            yield f"      and {more:,} more: --all lists them"


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-p", "--project", help="The project; all of them where none is named.")
@click.option("--reason", default="", help="Only what was not read for a reason that holds these words.")
@as_json
@one_line_errors
def retry(paths: tuple[str, ...], project: str | None, reason: str, as_json: bool) -> None:
    """Try again what is in quarantine, though it has not changed: every PATH, what lies beneath it, or all.

    Exits with 1 when paths or a reason are given and nothing in quarantine fits.
    """
    from cortex_pipelines.ingest.quarantine import matching, release
    from cortex_pipelines.projects import chosen_projects
    from cortex_pipelines.running import run_project
    from cortex_pipelines.settings import load_settings
    from cortex_pipelines.store import ProjectStore

    settings = load_settings()
    chosen = chosen_projects(settings.inbox, (project,) if project else settings.projects).projects
    fits = matching(paths, reason)
    told = []
    for name in chosen:
        tried = release(ProjectStore(settings.store, name, settings.state), fits)
        if not tried:
            continue
        still = dict(run_project(name, settings).quarantine)
        left = {path: still[path] for path in tried if path in still}
        told.append({"project": name, "tried": tried, "read": [p for p in tried if p not in left], "not_read": left})
        if not as_json:
            click.echo(f"{name}: {len(tried)} tried again, {len(tried) - len(left)} of them no longer in quarantine")
            for path, why in left.items():
                click.echo(f"  {visible(path)}: {visible(why)}")
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
    if not told:
        click.echo("nothing in quarantine fits", err=True)
        if paths or reason:
            sys.exit(1)
