"""The text of a document as a parser writes it: lines, with headings, pages and tables where they belong."""

from collections.abc import Iterable, Mapping, Sequence

from cortex_pipelines.ingest.parsing import Heading, Page, Parsed, Part, Unreadable

# No text of a title, an author or a date is longer.
DETAIL_CHARACTERS = 500


class Draft:
    """Collects what `Parsed` holds."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.headings: list[Heading] = []
        self.pages: list[Page] = []

    def block(self, text: str, *, loose: bool = True) -> None:
        """A paragraph, or a list's item when it is not `loose`: an empty line follows only what is."""
        self.lines.extend(text.split("\n"))
        if loose:
            self.lines.append("")

    def heading(self, level: int, text: str) -> None:
        """A heading, on one line."""
        words = " ".join(text.split())
        if words:
            self.apart()
            self.headings.append(Heading(min(max(level, 1), 6), words, len(self.lines) + 1))
            self.block(words)

    def page(self, number: int) -> None:
        """What follows is on this page."""
        self.pages.append(Page(number, len(self.lines) + 1))

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """A table as Markdown: its first row is its head."""
        filled = [row for row in rows if any(cell.strip() for cell in row)]
        width = max(map(len, filled), default=0)
        self.apart()
        for number, row in enumerate(filled):
            cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
            self.lines.append("| " + " | ".join([*cells, *[""] * (width - len(cells))]) + " |")
            if number == 0:
                self.lines.append("|" + " --- |" * width)
        if filled:
            self.lines.append("")

    def apart(self) -> None:
        """An empty line, unless there is one."""
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def parsed(
        self, media_type: str, title: str = "", parts: Iterable[Part] = (), details: Mapping[str, object] | None = None
    ) -> Parsed:
        """The document. `Unreadable` when nothing was written."""
        if self.pages and self.pages[-1].line > len(self.lines):
            self.lines.append("")  # the last one is empty
        text = "\n".join(self.lines)
        kept = tuple(parts)
        if not text.strip() and not kept:
            raise Unreadable("has no text")
        return Parsed(
            media_type, text, tuple(self.headings), tuple(self.pages), short(title), kept, details=shortened(details)
        )


def shortened(details: Mapping[str, object] | None) -> dict[str, str]:
    """What a file tells of itself, as short strings; what it does not tell is left out."""
    told = {name: short(str(value)) for name, value in (details or {}).items() if value}
    return {name: value for name, value in told.items() if value}


def short(text: str) -> str:
    """One line of bounded length."""
    return " ".join(text[: 2 * DETAIL_CHARACTERS].split())[:DETAIL_CHARACTERS]
