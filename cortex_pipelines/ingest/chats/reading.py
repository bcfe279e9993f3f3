"""What a reader of an export is told, and what it tells beside messages."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from cortex_pipelines.ingest.chats.fields import one_line
from cortex_pipelines.ingest.parsing import Part

# What people attach to chats is little; a hostile export might hold a million files.
PARTS = 1_000
# A day of a channel has some thousands of messages.
HELD = 250_000
T = TypeVar("T")


@dataclass
class Reading:
    """The reading of one export: its name, who is who, what is left out and what files it holds."""

    name: str
    people: Mapping[str, str]
    left_out: Counter[str] = field(default_factory=Counter)
    parts: list[Part] = field(default_factory=list)
    _threads: Counter[str] = field(default_factory=Counter)
    _names: set[str] = field(default_factory=set)
    _conversations: int = 0

    def thread(self, title: str) -> str:
        """A name of a conversation that no other one of the export has."""
        title = one_line(title) or "Untitled"
        self._threads[title] += 1
        return title if self._threads[title] == 1 else f"{title} ({self._threads[title]})"

    def number(self) -> int:
        """A number of a conversation, since identifiers of messages may be those of another one."""
        self._conversations += 1
        return self._conversations

    def first(self, found: Iterable[T]) -> Iterator[T]:
        """As many as are held at once, where all are needed to put them in order."""
        for number, item in enumerate(found):
            if number < HELD:
                yield item
            else:
                self.left_out["after the first"] += 1

    def part(self, name: str, text: str) -> None:
        """Keep an attached text as a document of its own."""
        if len(self.parts) >= PARTS:
            self.left_out["attachments"] += 1
            return
        name = f"{len(self.parts) + 1}-{name}" if name in self._names else name
        self._names.add(name)
        self.parts.append(Part(name, text.encode("utf-8", "replace")))
