"""Reports as files: Markdown and HTML, written whole and only when they changed."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cortex_pipelines.errors import CortexError
from cortex_pipelines.reports.html import page


class ReportError(CortexError):
    """A report cannot be written."""


def write_report(
    folder: Path,
    project: str,
    product: str,
    markdown: str,
    title: str,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `<folder>/<project>/<product>.md` and `.html`, and the index beside them; the path of the Markdown.

    `beside` are other forms of the same by the ending of their files.
    """
    place = folder / project
    try:
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{product}.md"
        for ending, text in beside.items():
            _write(place / f"{product}.{ending}", text)
        if _text(path) != markdown:
            _write(place / f"{product}.html", page(f"{title}: {project}", markdown, [(project, "index.html")]))
            others = sorted(found.stem for found in place.glob("*.html") if found.stem != "index")
            links = [(name.replace("_", " "), f"{name}.html") for name in others]
            _write(place / "index.html", page(project, f"# {project}\n\nThe reports of this project.\n", links))
            # Last, since it tells that the others are written.
            _write(path, markdown)
    except OSError as error:
        raise ReportError(
            f"the reports folder {place} cannot be written ({error.strerror}): free some space, or set CORTEX_REPORTS"
        ) from error
    return path


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _write(path: Path, text: str) -> None:
    """Replace a file by one with this text."""
    if _text(path) == text:
        return
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(unfinished).chmod(0o644)
        Path(unfinished).replace(path)
    except OSError:
        Path(unfinished).unlink(missing_ok=True)
        raise
