"""Which file an import means, and which files import each other in a circle."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.codebase.imports import Resolver, import_cycles

PATHS = ["src/app/__init__.py", "src/app/main.py", "src/app/store/__init__.py", "src/app/store/rows.py", "tool.py"]
SCRIPTS = ["web/index.js", "web/parts/index.ts", "web/view.tsx", "web/format.js"]


@pytest.mark.parametrize(
    ("path", "target", "found"),
    [
        ("tool.py", "app.main", "src/app/main.py"),
        ("tool.py", "app.main.start", "src/app/main.py"),
        ("tool.py", "app.store", "src/app/store/__init__.py"),
        ("src/app/main.py", ".store.rows.Row", "src/app/store/rows.py"),
        ("src/app/store/rows.py", "..main", "src/app/main.py"),
        ("src/app/main.py", "os.path", None),
        ("tool.py", "....main", None),
    ],
)
def test_a_python_import_means_the_file_that_python_would_load(path: str, target: str, found: str | None) -> None:
    assert Resolver(PATHS).resolve(path, "python", target) == found


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("./format.js", "web/format.js"),
        ("./format", "web/format.js"),
        ("./parts", "web/parts/index.ts"),
        ("./view", "web/view.tsx"),
        ("react", None),
        ("../../../etc/passwd", None),
    ],
)
def test_a_script_import_means_the_file_beside_it(target: str, found: str | None) -> None:
    assert Resolver(SCRIPTS).resolve("web/index.js", "javascript", target) == found


EDGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=20)


@given(EDGES)
def test_every_circle_that_is_told_is_one_and_none_is_told_where_there_is_none(edges: list[tuple[str, str]]) -> None:
    cycles = import_cycles(edges, 20)
    for cycle in cycles:
        assert len(cycle) == len(set(cycle)) > 1
        assert all(edge in edges for edge in pairwise([*cycle, cycle[0]]))
    left = {edge for edge in edges if edge[0] != edge[1]} - {(cycle[-1], cycle[0]) for cycle in cycles}
    assert bool(cycles) or not _has_circle(left)
    assert len(cycles) == 20 or not _has_circle(left)


def _has_circle(edges: set[tuple[str, str]]) -> bool:
    """Peel off what imports nothing that is left; what cannot be peeled goes in a circle."""
    left = set(edges)
    while left:
        importing = {source for source, _ in left}
        peeled = {(source, target) for source, target in left if target in importing}
        if peeled == left:
            return True
        left = peeled
    return False
