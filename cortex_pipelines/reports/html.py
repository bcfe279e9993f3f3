"""A report as one page of HTML that needs nothing else and runs nothing."""

# A style sheet is read by the rule, not by the line.
# ruff: noqa: E501

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --line: #d8dee4; --soft: #f6f8fa; --mark: #0b6e69; }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #151b23; --mark: #5fc9c1; } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .7rem; } h1 { margin-top: 0; border-bottom: 3px solid var(--mark); padding-bottom: .4rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .94em; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
th { border-bottom: 2px solid var(--line); }
code, pre { font: .88em/1.5 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1em .3em; overflow-wrap: anywhere; } pre { padding: .7rem .9rem; overflow-x: auto; } pre code { padding: 0; }
nav { font-size: .9em; margin-bottom: 1.5rem; } a { color: var(--mark); } em { opacity: .8; }
@media print { body { max-width: none; margin: 0; } nav { display: none; } }
</style>
</head>
<body>
<nav>{% for name, target in links %}<a href="{{ target }}">{{ name }}</a>{% if not loop.last %} · {% endif %}{% endfor %}</nav>
<main>{{ body }}</main>
</body>
</html>
"""


def page(title: str, markdown: str, links: list[tuple[str, str]]) -> str:
    """Markdown as a page; HTML in it is shown, never obeyed. `links` are names and files of our own."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    rendered = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").render(markdown)
    # Sound: the renderer escapes all text and raw HTML is switched off.
    return _template().render(title=title, body=Markup(rendered), links=links)  # noqa: S704


@cache
def _template() -> "Template":
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(_PAGE)
