"""The `cortex` command. Exit codes: 0 done, 1 a check failed or nothing was found, 2 an error in one line.

Everything heavy is imported by the command that needs it: `cortex --help` answers at once.
"""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cortex_pipelines import __version__
from cortex_pipelines.errors import CortexError
from cortex_pipelines.lanes_cli import lanes
from cortex_pipelines.models_cli import models
from cortex_pipelines.operations_cli import backup, doctor, prune, restore
from cortex_pipelines.terminal import as_json, one_line_errors, visible
from cortex_pipelines.watching_cli import retry, status, watch

if TYPE_CHECKING:
    from cortex_pipelines.settings import Settings
    from cortex_pipelines.store import ProjectStore

ALSO_SHOWN = 3

in_project = click.option("-p", "--project", help="The project; not needed where there is only one.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cortex")
def main() -> None:
    """Turn what is dropped into a folder into an index that cites, audits, reports and a roadmap.

    Every folder of the inbox is a project. `cortex run` builds every product of it; `cortex ask` answers
    from it, with the places where the answer stands. Where things lie is set by CORTEX_* variables, which
    `cortex settings` lists.
    """


main.add_command(lanes)
main.add_command(models)
main.add_command(backup)
main.add_command(restore)
main.add_command(prune)
main.add_command(doctor)
main.add_command(watch)
main.add_command(status)
main.add_command(retry)


@main.command()
@click.argument("projects", nargs=-1)
@click.option("-s", "--select", multiple=True, metavar="PRODUCT", help="Only this product, and what it is made from.")
@click.option("--force", is_flag=True, help="Do everything again, also what has not changed.")
@as_json
@one_line_errors
def run(projects: tuple[str, ...], select: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Build every product of PROJECTS, or of every project of the inbox.

    Only what changed since the last run is done. Exits with 1 when a check fails that guards a product.
    """
    from cortex_pipelines.products import selected
    from cortex_pipelines.running import run_project, summary_lines

    products = selected(select)
    settings = _settings()
    summaries = []
    for project in _chosen(settings, projects):
        summary = run_project(project, settings, force, _progress(project, quiet=as_json), products)
        summaries.append(summary)
        if not as_json:
            click.echo("\n".join(summary_lines(summary)))
    if as_json:
        click.echo(json.dumps([summary.as_json() for summary in summaries], ensure_ascii=False))
    if any(summary.failed for summary in summaries):
        sys.exit(1)


@main.command()
@click.argument("query")
@in_project
@click.option("-n", "--limit", default=10, show_default=True, type=click.IntRange(1, 100), help="How many at most.")
@as_json
@one_line_errors
def search(query: str, project: str | None, limit: int, as_json: bool) -> None:
    """Find the passages of a project that fit QUERY best. Exits with 1 when there are none."""
    from dataclasses import asdict

    from cortex_pipelines.retrieval.search import search as find

    hits = find(_store(_settings(), project).snapshot(), query, limit)
    if as_json:
        click.echo(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False))
    for hit in () if as_json else hits:
        click.echo(click.style(visible(hit.location), bold=True) + f"  {hit.score:.2f}  {visible(hit.section)}")
        click.echo(_indented(hit.text, lines=4))
        if hit.also:
            click.echo(click.style(f"    also in {visible(', '.join(hit.also[:ALSO_SHOWN]))}", dim=True))
    if not hits:
        click.echo("nothing found", err=True)
        sys.exit(1)


@main.command()
@click.argument("question")
@in_project
@as_json
@one_line_errors
def ask(question: str, project: str | None, as_json: bool) -> None:
    """Answer QUESTION from a project's sources, quoted and cited. Exits with 1 when they do not hold it."""
    from dataclasses import asdict

    from cortex_pipelines.lanes import Lanes
    from cortex_pipelines.retrieval.answering import ask as answer_question

    settings = _settings()
    asked = Lanes(settings)
    answer = answer_question(_store(settings, project).snapshot(), question, lanes=asked if asked.configured else None)
    if as_json:
        click.echo(json.dumps(asdict(answer), ensure_ascii=False))
    else:
        click.echo(visible(answer.text))
        for number, evidence in enumerate(answer.citations, 1):
            click.echo(click.style(f"[{number}] {visible(evidence.location)}", bold=True))
            click.echo(_indented(evidence.quote, lines=8))
        if answer.note:
            click.echo(visible(answer.note), err=True)
    if not answer.found:
        sys.exit(1)


@main.command(name="projects")
@as_json
@one_line_errors
def list_projects(as_json: bool) -> None:
    """List the projects of the inbox, and the folders that cannot be one."""
    from cortex_pipelines.projects import find_projects

    found = find_projects(_settings().inbox)
    if as_json:
        click.echo(json.dumps({"projects": found.projects, "refused": found.refused}))
        return
    for project in found.projects:
        click.echo(project)
    for name, reason in found.refused.items():
        click.echo(f"{visible(name)}: refused, its name {reason}", err=True)


@main.command(name="settings")
@as_json
@one_line_errors
def list_settings(as_json: bool) -> None:
    """Show every variable, its value and where it came from."""
    from cortex_pipelines.settings import VARIABLES

    settings = _settings()
    rows = [(name, _plain(settings.value(name)), settings.source(name)) for name in VARIABLES]
    if as_json:
        click.echo(json.dumps({name: {"value": value, "source": source} for name, value, source in rows}))
        return
    width = max(len(name) for name in VARIABLES)
    for name, value, source in rows:
        shown = ",".join(value) if isinstance(value, list) else "" if value is None else str(value)
        line = f"{name:<{width}}  {visible(shown) or '-'}"
        click.echo(line if source == "default" else f"{line}  {click.style(f'({source})', dim=True)}")


def _settings() -> "Settings":
    from cortex_pipelines.settings import load_settings

    return load_settings()


def _chosen(settings: "Settings", named: tuple[str, ...]) -> tuple[str, ...]:
    """The projects a command is about: those named, else those of `CORTEX_PROJECTS`, else those of the inbox."""
    from cortex_pipelines.projects import chosen_projects

    chosen = chosen_projects(settings.inbox, named or settings.projects)
    for name, reason in chosen.refused.items():
        click.echo(f"cortex: {visible(name)} is left out, its name {reason}", err=True)
    return chosen.projects


def _store(settings: "Settings", project: str | None) -> "ProjectStore":
    from cortex_pipelines.store import ProjectStore

    projects = _chosen(settings, (project,) if project else ())
    if len(projects) > 1:
        raise CortexError(f"there are several projects, choose one with --project: {', '.join(projects)}")
    return ProjectStore(settings.store, projects[0], settings.state)


def _progress(project: str, quiet: bool) -> Callable[[str, int, int], None]:
    """What tells of the progress of a run: a line that moves on a terminal, a line per product elsewhere."""
    if quiet:
        return lambda product, done, of: None

    def moving(product: str, done: int, of: int) -> None:
        click.echo(f"\r\033[K{project}: {product}" + (f" {done}/{of}" if of else ""), nl=False, err=True)
        if product == "done":
            click.echo("\r\033[K", nl=False, err=True)

    def plain(product: str, done: int, of: int) -> None:
        if done == 0 and product != "done":
            click.echo(f"{project}: {product}" + (f", {of} batches" if of else ""), err=True)

    return moving if sys.stderr.isatty() else plain


def _plain(value: Any) -> Any:
    """A setting as JSON takes it; a secret as whether it is set."""
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        return "set, not shown"
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, (int, bool)) else str(value)


def _indented(text: str, lines: int) -> str:
    shown = text.strip("\n").split("\n")
    cut = [f"    {visible(line)}" for line in shown[:lines]]
    return "\n".join([*cut, "    …"] if len(shown) > lines else cut)
