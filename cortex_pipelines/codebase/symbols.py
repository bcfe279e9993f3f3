"""What a source file holds, read from its syntax tree: symbols, imports, the shape of its functions, notes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cortex_pipelines.codebase.grammars import Grammar, grammar

if TYPE_CHECKING:
    from tree_sitter import Node

# Parsers need hundreds of times the bytes they read: larger files are data or generated (facts/retrieval.md E).
MOST_CHARACTERS = 1_000_000
# A mean line of hand-written code is 30 to 45 characters; minified code has one line, or a few, for all of it.
MINIFIED_MEAN_LINE = 250
MINIFIED_LEAST = 2_000
# Names and signatures are for people; an identifier of a hostile file may be as long as the file.
NAME_CHARACTERS = 200
QUALIFIED_CHARACTERS = 400
SIGNATURE_CHARACTERS = 200

NOTE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

_HOLDERS = frozenset({"class", "interface", "struct", "enum", "scope"})
# Where a second definition of a function silently replaces the first (ruff reports Python's, F811).
_REPLACING = frozenset({"javascript", "typescript", "tsx", "ruby", "bash"})


# Named tuples: a large repository has hundreds of thousands, and they pass between processes as JSON rows.
class Symbol(NamedTuple):
    """A definition; `qualified` is its name within the file, joined by dots; lines are 1-based and inclusive."""

    name: str
    qualified: str
    kind: str
    line_start: int
    line_end: int
    signature: str


class Import(NamedTuple):
    """An import as written, `package.name` for a Python `from package import name`.

    `deferred` imports do not run when the file is loaded: in a function, or for the type checker only.
    """

    target: str
    line: int
    deferred: bool = False


class Function(NamedTuple):
    """The shape of one function: decision points in it, and how deep its deepest block is nested."""

    qualified: str
    line_start: int
    line_end: int
    branches: int
    nesting: int

    @property
    def lines(self) -> int:
        """Its length in lines."""
        return self.line_end - self.line_start + 1

    @property
    def complexity(self) -> int:
        """McCabe's cyclomatic complexity: one more than its decision points."""
        return self.branches + 1


class Mark(NamedTuple):
    """Something found at a line: a note (`TODO`), a hit of a pattern rule, a definition made twice."""

    kind: str
    line: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """Everything read from one file. `left_out` is why it was not parsed; `error_lines` were not understood."""

    language: str
    lines: int = 0
    code_lines: int = 0
    branches: int = 0
    error_lines: int = 0
    symbols: tuple[Symbol, ...] = ()
    imports: tuple[Import, ...] = ()
    functions: tuple[Function, ...] = ()
    notes: tuple[Mark, ...] = ()
    hits: tuple[Mark, ...] = ()
    duplicates: tuple[Mark, ...] = ()
    left_out: str | None = None

    @property
    def parsed(self) -> bool:
        """Whether there is a tree at all; `error_lines` tells how much of it is guessed."""
        return self.left_out is None


def read_code(text: str, language: str) -> Code:
    """Read a source file; never fails on what the text holds. Lines are counted by line feeds."""
    source = text.encode("utf-8", "replace")
    lines = text.count("\n") + (not text.endswith("\n") and text != "")
    if reason := objection(text):
        return Code(language, lines, left_out=reason)
    spoken = grammar(language)
    if spoken is None:
        return Code(language, lines, left_out=f"no grammar for {language}")
    root = spoken.parser.parse(source).root_node
    error_lines = _error_lines(spoken, root) if root.has_error else 0
    if spoken.facts is None:
        return Code(language, lines, error_lines=error_lines)
    return _Sweep(spoken, source, root, lines, error_lines).code


def objection(text: str) -> str | None:
    """Why a file is not parsed, by its size alone; None for one that is."""
    if len(text) > MOST_CHARACTERS:
        return f"longer than {MOST_CHARACTERS:,} characters"
    if len(text) > MINIFIED_LEAST and len(text) > MINIFIED_MEAN_LINE * (text.count("\n") + 1):
        return "minified"
    return None


def _error_lines(spoken: Grammar, root: "Node") -> int:
    """How many lines lie in a range that did not parse."""
    from tree_sitter import QueryCursor

    count, done = 0, -1
    for node in sorted(QueryCursor(spoken.errors).captures(root).get("e", ()), key=lambda node: node.start_byte):
        first, last = max(node.start_point[0], done + 1), node.end_point[0]
        if last >= first:
            count += last - first + 1
            done = last
    return count


@dataclass(slots=True)
class _Shape:
    """What is counted for the function that is open."""

    branches: int = 0
    nesting: int = 0


@dataclass(slots=True)
class _Open:
    """A node that is open in the sweep: where it ends, what encloses names there, and the function it is in.

    `seen` are the names defined directly in it; None in a branch, where a second definition is an alternative.
    """

    end: int
    kind: str
    qualified: str
    shape: _Shape
    depth: int
    seen: dict[str, int] | None
    deferred: bool


class _Sweep:
    """One pass over the captured nodes in the order of the text, with a stack of what is open."""

    def __init__(self, spoken: Grammar, source: bytes, root: "Node", lines: int, error_lines: int) -> None:
        from tree_sitter import QueryCursor

        assert spoken.facts is not None
        captures = QueryCursor(spoken.facts).captures(root)
        self.language, self.source = spoken.name, source
        self.chained = {node.start_byte for node in captures.pop("chained", ())}
        self.erased = {node.start_byte for node in captures.pop("erased", ())}
        comments = captures.pop("comment", [])
        self.symbols: list[Symbol] = []
        self.imports: list[Import] = []
        self.functions: list[tuple[Symbol, _Shape]] = []
        self.hits: list[Mark] = []
        self.duplicates: list[Mark] = []
        shape = _Shape()
        self.stack = [_Open(len(source) + 1, "file", "", shape, 0, {}, False)]
        self.run(captures)
        self.code = Code(
            self.language,
            lines,
            max(0, lines - self.blank_lines() - sum(self.comment_rows(node) for node in comments)),
            shape.branches + sum(shape.branches for _, shape in self.functions),
            error_lines,
            tuple(self.symbols),
            tuple(self.imports),
            tuple(
                Function(symbol.qualified, symbol.line_start, symbol.line_end, shape.branches, shape.nesting)
                for symbol, shape in self.functions
            ),
            tuple(self.notes(comments)),
            tuple(self.hits),
            tuple(self.duplicates),
        )

    def run(self, captures: dict[str, list["Node"]]) -> None:
        events = [
            (node.start_byte, -node.end_byte, name, index, node)
            for name, nodes in captures.items()
            if not name.startswith("_")
            for index, node in enumerate(nodes)
        ]
        events.sort()
        stack, known = self.stack, set()
        for start, end, role, _, node in events:
            while stack[-1].end <= start:
                stack.pop()
            top = stack[-1]
            if role == "branch":
                top.shape.branches += 1
            elif role == "nest" or role == "block":
                self.nest(node, role, start, -end)
            elif role == "closure":
                self.stack.append(_Open(-end, top.kind, top.qualified, top.shape, top.depth, {}, True))
            elif role == "import":
                self.imports.append(
                    Import(self.target(node), node.start_point[0] + 1, top.deferred or start in self.erased)
                )
            elif role == "from":
                self.imports += self.from_import(node, top.deferred)
            elif role.startswith("rule."):
                self.hits.append(Mark(role[5:], node.start_point[0] + 1))
            elif start not in known or role == "scope":
                # What two patterns see, such as a function that is also a constant, is one definition.
                known.add(start)
                self.define(node, role, start, -end)

    def nest(self, node: "Node", role: str, start: int, end: int) -> None:
        top = self.stack[-1]
        depth = top.depth + (start not in self.chained)
        top.shape.nesting = max(top.shape.nesting, depth)
        top.shape.branches += role == "nest"
        header = self.source[start : start + 60].partition(b"\n")[0]
        deferred = top.deferred or (self.language == "python" and b"TYPE_CHECKING" in header)
        self.stack.append(_Open(end, top.kind, top.qualified, top.shape, depth, None, deferred))

    def define(self, node: "Node", role: str, start: int, end: int) -> None:
        top = self.stack[-1]
        named = _name_node(node)
        if named is None:
            return
        written = self.text(named, QUALIFIED_CHARACTERS).replace("::", ".").partition("<")[0].strip()
        if self.language == "go" and node.type == "method_declaration":
            written = f"{self.receiver(node)}.{written}"
        holder, _, name = written.rpartition(".")
        qualified = f"{top.qualified}.{written}" if top.qualified else written
        qualified = qualified[-QUALIFIED_CHARACTERS:]
        kind = "method" if role == "function" and (holder or top.kind in _HOLDERS) else role
        symbol = Symbol(
            name[:NAME_CHARACTERS],
            qualified,
            kind,
            node.start_point[0] + 1,
            max(node.end_point[0] + (node.end_point[1] > 0), node.start_point[0] + 1),
            self.line_of(named.start_byte)[:SIGNATURE_CHARACTERS],
        )
        if role != "scope":
            self.symbols.append(symbol)
        if role == "function":
            self.note_duplicate(node, symbol, top)
            shape = _Shape()
            self.functions.append((symbol, shape))
            self.stack.append(_Open(end, "function", qualified, shape, 0, {}, True))
        elif role not in ("constant", "type"):
            self.stack.append(_Open(end, role, qualified, top.shape, 0, {}, top.deferred))

    def note_duplicate(self, node: "Node", symbol: Symbol, top: _Open) -> None:
        if self.language not in _REPLACING or node.type == "method_definition" or top.seen is None:
            return
        if symbol.qualified in top.seen:
            self.duplicates.append(Mark("duplicate", symbol.line_start, symbol.name))
        top.seen[symbol.qualified] = symbol.line_start

    def target(self, node: "Node") -> str:
        return self.text(node, QUALIFIED_CHARACTERS).strip("\"'`<>")

    def from_import(self, node: "Node", deferred: bool) -> Iterator[Import]:
        module = node.child_by_field_name("module_name")
        if module is None:
            return
        base, line = self.text(module, QUALIFIED_CHARACTERS), node.start_point[0] + 1
        names = node.children_by_field_name("name")
        if not names:
            yield Import(base, line, deferred)
        for name in names:
            name = name.child_by_field_name("name") or name
            dot = "" if base.endswith(".") else "."
            yield Import(f"{base}{dot}{self.text(name, NAME_CHARACTERS)}", line, deferred)

    def receiver(self, node: "Node") -> str:
        """The type that a Go method belongs to: `T` of `(t *T[K])`."""
        written = node.child_by_field_name("receiver")
        words = re.findall(r"\w+", self.text(written, NAME_CHARACTERS).partition("[")[0]) if written else []
        return words[-1] if words else "_"

    def text(self, node: "Node", most: int) -> str:
        start = node.start_byte
        return self.source[start : min(node.end_byte, start + most)].decode("utf-8", "ignore")

    def line_of(self, start: int) -> str:
        first = self.source.rfind(b"\n", 0, start) + 1
        last = self.source.find(b"\n", start)
        # Four bytes is the longest UTF-8 character.
        last = min(last if last >= 0 else len(self.source), start + 4 * SIGNATURE_CHARACTERS)
        return self.source[max(first, start - 4 * SIGNATURE_CHARACTERS) : last].decode("utf-8", "ignore").strip()

    def blank_lines(self) -> int:
        # In C: a loop over the lines in Python costs a tenth of all the reading.
        lines = self.source.translate(None, b" \t\r\f\v").split(b"\n")
        return lines.count(b"") - (not lines[-1])

    def comment_rows(self, node: "Node") -> int:
        """How many lines a comment has to itself."""
        before = self.source[self.source.rfind(b"\n", 0, node.start_byte) + 1 : node.start_byte]
        alone = not before or before.isspace()
        return node.end_point[0] - node.start_point[0] + (1 if alone else 0) - (node.end_point[1] == 0)

    def notes(self, comments: list["Node"]) -> Iterator[Mark]:
        if not any(word in self.source for word in (b"TODO", b"FIXME", b"XXX", b"HACK")):
            return
        for node in comments:
            text = self.source[node.start_byte : node.end_byte].decode("utf-8", "ignore")
            if NOTE.search(text):
                for offset, line in enumerate(text.split("\n")):
                    if found := NOTE.search(line):
                        yield Mark(found[1], node.start_point[0] + 1 + offset)


def _name_node(node: "Node") -> "Node | None":
    """The node that names a definition: its `name`, or the end of C's chain of declarators."""
    for field in ("name", "left", "type" if node.type == "impl_item" else "declarator"):
        if found := node.child_by_field_name(field):
            while (inner := found.child_by_field_name("declarator")) is not None:
                found = inner
            return found
    return next(iter(node.named_children), None) if node.type in ("const_element", "mod_item") else None
