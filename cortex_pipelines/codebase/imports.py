"""Which file of the same repository an import means, and which files import each other in a circle."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from posixpath import basename, dirname, join, normpath

_SCRIPT_SUFFIXES = (".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs")
# TypeScript imports a module by the name of what it is compiled to.
_COMPILED = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
_SCRIPTS = frozenset({"javascript", "typescript", "tsx"})
_BY_PATH = frozenset({"c", "cpp", "bash", "ruby", "php"})


class Resolver:
    """Resolves imports among the files of one repository; paths are relative to it, '/'-separated.

    `go_modules` maps the folder of each `go.mod` to the module path it declares.
    """

    def __init__(self, paths: Iterable[str], go_modules: Mapping[str, str] | None = None) -> None:
        self._paths = frozenset(paths)
        self._modules = _python_modules(self._paths)
        self._go_modules = sorted((go_modules or {}).items(), key=lambda item: -len(item[1]))
        self._go_packages = _go_packages(self._paths) if self._go_modules else {}

    def resolve(self, path: str, language: str, target: str) -> str | None:
        """The file that `target` means when `path` imports it; None for what lies outside or is not certain."""
        if language == "python":
            return self._python(path, target)
        if language in _SCRIPTS:
            return self._script(path, target)
        if language == "go":
            return self._go(target)
        if language in _BY_PATH:
            return self._by_path(path, target, ".rb" if language == "ruby" else "")
        return None

    def _python(self, path: str, target: str) -> str | None:
        relative = len(target) - len(target.lstrip("."))
        if relative:
            base = dirname(path)
            for _ in range(relative - 1):
                if not base:
                    return None
                base = dirname(base)
            parts = [part for part in target.split(".") if part]
            # The last part may be a name in the module, not a module.
            for wanted in (parts, parts[:-1]) if parts else (parts,):
                stem = join(base, *wanted) if wanted else base
                for candidate in (f"{stem}.py", join(stem, "__init__.py"), f"{stem}.pyi"):
                    if candidate in self._paths and candidate != path:
                        return candidate
            return None
        module = target
        for _ in range(2):
            if module in self._modules:
                return self._nearest(path, self._modules[module])
            module = module.rpartition(".")[0]
        return None

    @staticmethod
    def _nearest(path: str, candidates: Sequence[str]) -> str | None:
        """The candidate that shares most folders with the importing file, if one does more than the others."""
        others = [candidate for candidate in candidates if candidate != path]
        if len(others) < 2:
            return others[0] if others else None
        shared = [_shared_folders(path, candidate) for candidate in others]
        most = max(shared)
        return others[shared.index(most)] if shared.count(most) == 1 else None

    def _script(self, path: str, target: str) -> str | None:
        if not target.startswith("."):
            return None
        stem = _inside(join(dirname(path), target))
        if stem is None:
            return None
        head, dot, suffix = stem.rpartition(".")
        compiled = [head + other for other in _COMPILED.get(dot + suffix, ())]
        beside = [stem + suffix for suffix in _SCRIPT_SUFFIXES]
        index = [join(stem, f"index{suffix}") for suffix in _SCRIPT_SUFFIXES]
        return next((found for found in (stem, *compiled, *beside, *index) if found in self._paths), None)

    def _go(self, target: str) -> str | None:
        for folder, module in self._go_modules:
            if target == module or target.startswith(module + "/"):
                return self._go_packages.get(normpath(join(folder, target[len(module) + 1 :])))
        return None

    def _by_path(self, path: str, target: str, suffix: str) -> str | None:
        for written in (target, target + suffix):
            found = _inside(join(dirname(path), written))
            if found in self._paths:
                return found
        return None


def import_cycles(edges: Iterable[tuple[str, str]], most: int) -> list[list[str]]:
    """At most `most` circles of imports, each the shortest through its closing edge, without its start repeated."""
    graph: dict[str, set[str]] = defaultdict(set)
    for source, target in edges:
        if source != target:
            graph[source].add(target)
    cycles: list[list[str]] = []
    while len(cycles) < most:
        ordered = {source: sorted(graph[source]) for source in sorted(graph)}
        try:
            TopologicalSorter(ordered).prepare()
        except CycleError as error:
            cycle = _shortest_cycle(graph, min(error.args[1]))
            cycles.append(cycle)
            graph[cycle[-1]].discard(cycle[0])
        else:
            break
    return cycles


def _shortest_cycle(graph: Mapping[str, set[str]], start: str) -> list[str]:
    """The shortest way from a file that lies on a circle back to it."""
    came: dict[str, str] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in sorted(graph.get(here, ())):
            if there == start:
                way = [here]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if there not in came:
                came[there] = here
                queue.append(there)
    raise ValueError(f"{start} lies on no circle")


def _shared_folders(one: str, other: str) -> int:
    """How many folders two paths begin with in common."""
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _inside(path: str) -> str | None:
    """The path without `.` and `..`; None when it leads out of the repository."""
    whole = normpath(path)
    return None if whole.startswith(("/", "../")) or whole == ".." else whole


def _python_modules(paths: frozenset[str]) -> dict[str, list[str]]:
    """Every file by the names it can be imported under: from its topmost package, and from the repository's root."""
    modules: dict[str, list[str]] = defaultdict(list)
    packages = {dirname(path) for path in paths if basename(path) == "__init__.py"}
    for path in sorted(paths):
        if not path.endswith((".py", ".pyi")):
            continue
        stem = dirname(path) if basename(path) == "__init__.py" else path.rpartition(".")[0]
        root = dirname(path)
        while root and root in packages:
            root = dirname(root)
        names = {stem, stem[len(root) + 1 :] if root else stem}
        for name in sorted(names - {""}):
            modules[name.replace("/", ".")].append(path)
    return modules


def _go_packages(paths: frozenset[str]) -> dict[str, str]:
    """One file for each Go package: the one named as its folder, or the first that is no test."""
    files: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        if path.endswith(".go") and not path.endswith("_test.go"):
            files[dirname(path) or "."].append(path)
    return {
        folder: next((path for path in listed if basename(path) == f"{basename(folder)}.go"), listed[0])
        for folder, listed in files.items()
    }
