"""What a file is by its path."""

import pytest

from cortex_pipelines.ingest.languages import _NAMES, _SUFFIXES, language_of, vendored_or_generated


@pytest.mark.parametrize("language", sorted({*_SUFFIXES.values(), *_NAMES.values()}))
def test_every_language_named_is_a_grammar_that_is_installed(language: str) -> None:
    from tree_sitter_language_pack import get_parser

    assert get_parser(language).parse(b"").root_node is not None


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("src/app.py", "python"),
        ("SRC/APP.PY", "python"),
        ("web/Button.tsx", "tsx"),
        ("web/index.ts", "typescript"),
        ("web/index.d.ts", "typescript"),
        ("a.b/main.go", "go"),
        ("include/x.hpp", "cpp"),
        ("Dockerfile", "dockerfile"),
        ("ops/Dockerfile.gpu", "dockerfile"),
        ("ops/gpu.dockerfile", "dockerfile"),
        ("Makefile", "make"),
        ("sub/CMakeLists.txt", "cmake"),
        ("run.sh", "bash"),
        ("README", None),
        ("notes.txt", None),
        (".py", None),
        ("photo.png", None),
        ("py", None),
        ("", None),
    ],
)
def test_the_language_is_told_by_the_name_or_the_suffix(path: str, language: str | None) -> None:
    assert language_of(path) == language


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("web/node_modules/left-pad/index.js", "vendored"),
        ("admin/static/js/vendor/select2/select2.full.js", "vendored"),
        ("Third_Party/zlib/inflate.c", "vendored"),
        ("web/dist/app.js", "generated"),
        ("api/kestrel_pb2.py", "generated"),
        ("static/jquery.min.js", "minified"),
        ("package-lock.json", "lock file"),
        ("go.sum", "lock file"),
        ("src/vendor.py", None),
        ("src/distance.py", None),
        ("src/minimum.js", None),
        ("src/lock.json", None),
    ],
)
def test_what_the_project_did_not_write_is_told_with_its_reason(path: str, reason: str | None) -> None:
    assert vendored_or_generated(path) == reason
