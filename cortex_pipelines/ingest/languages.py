"""What a file of a repository is by its path: its language, and whether its own project wrote it."""

import re
from pathlib import PurePosixPath

# Names of the grammars in tree-sitter-language-pack 0.13. A `.h` is read as C, which most of a C++ header is too.
_SUFFIXES = {
    suffix: language
    for language, suffixes in {
        "bash": "sh bash zsh ksh bats",
        "c": "c h",
        "clojure": "clj cljs cljc edn",
        "cmake": "cmake",
        "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp",
        "csharp": "cs csx",
        "css": "css",
        "cuda": "cu cuh",
        "dart": "dart",
        "dockerfile": "dockerfile",
        "elixir": "ex exs",
        "elm": "elm",
        "erlang": "erl hrl",
        "fish": "fish",
        "fortran": "f90 f95 f03 f08",
        "fsharp": "fs fsx",
        "go": "go",
        "graphql": "graphql gql",
        "groovy": "groovy gradle",
        "haskell": "hs",
        "hcl": "hcl",
        "html": "html htm xhtml",
        "ini": "ini cfg",
        "java": "java",
        "javascript": "js mjs cjs jsx",
        "json": "json ipynb webmanifest",
        "julia": "jl",
        "kotlin": "kt kts",
        "latex": "tex sty",
        "lua": "lua",
        "make": "mk mak",
        "markdown": "md markdown",
        "nix": "nix",
        "objc": "m mm",
        "ocaml": "ml",
        "ocaml_interface": "mli",
        "pascal": "pas dpr",
        "perl": "pl pm",
        "php": "php phtml",
        "po": "po pot",
        "powershell": "ps1 psm1 psd1",
        "prisma": "prisma",
        "properties": "properties",
        "proto": "proto",
        "python": "py pyi pyw",
        "r": "r",
        "rst": "rst",
        "ruby": "rb rake gemspec",
        "rust": "rs",
        "scala": "scala sc sbt",
        "scss": "scss",
        "solidity": "sol",
        "sql": "sql",
        "starlark": "bzl star",
        "svelte": "svelte",
        "swift": "swift",
        "terraform": "tf tfvars",
        "toml": "toml",
        "tsx": "tsx",
        "typescript": "ts mts cts",
        "verilog": "sv svh",
        "vhdl": "vhd vhdl",
        "vim": "vim",
        "vue": "vue",
        "xml": "xml xsd xsl xslt svg plist csproj vcxproj",
        "yaml": "yaml yml",
        "zig": "zig",
    }.items()
    for suffix in suffixes.split()
}
_NAMES = {
    "build": "starlark",
    "build.bazel": "starlark",
    "cmakelists.txt": "cmake",
    "containerfile": "dockerfile",
    "dockerfile": "dockerfile",
    "gemfile": "ruby",
    "gnumakefile": "make",
    "go.mod": "gomod",
    "go.sum": "gosum",
    "jenkinsfile": "groovy",
    "makefile": "make",
    "meson.build": "meson",
    "rakefile": "ruby",
    "requirements.txt": "requirements",
    "vagrantfile": "ruby",
    "workspace": "starlark",
    ".bash_profile": "bash",
    ".bashrc": "bash",
    ".editorconfig": "ini",
    ".profile": "bash",
}

_VENDORED = frozenset(
    {"node_modules", "bower_components", "vendor", "vendored", "_vendor", "third_party", "third-party", "thirdparty"}
    | {"site-packages", "venv", ".venv", ".yarn", "carthage", "pods"}
)
_GENERATED = frozenset({"dist", "__pycache__", "__generated__", ".next", ".nuxt", ".tox", ".eggs"})
_GENERATED_ENDINGS = (
    *("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", ".pb.go", ".pb.cc", ".pb.h", ".g.dart", ".freezed.dart"),
    *(".designer.cs", ".g.cs", ".js.map", ".css.map", ".generated.ts", ".generated.go", ".snap"),
)
_MINIFIED_ENDINGS = (".min.js", ".min.mjs", ".min.css", "-min.js", ".bundle.js")
_LOCKS = frozenset(
    {"bun.lock", "bun.lockb", "cargo.lock", "composer.lock", "conan.lock", "deno.lock", "flake.lock", "gemfile.lock"}
    | {"go.sum", "gradle.lockfile", "mix.lock", "npm-shrinkwrap.json", "package-lock.json", "package.resolved"}
    | {"packages.lock.json", "pdm.lock", "pipfile.lock", "pnpm-lock.yaml", "podfile.lock", "poetry.lock"}
    | {"pubspec.lock", "uv.lock", "yarn.lock"}
)
_TEST_PATH = re.compile(
    r"(^|/)(tests?|testing|__tests__|spec)/|(^|/)(test_[^/]*|[^/]*_test|conftest)\.\w+$|\.(test|spec)\.\w+$"
)


def language_of(path: str) -> str | None:
    """The tree-sitter grammar of a file by its name or suffix; None for what is no source text we know."""
    name = PurePosixPath(path).name.lower()
    if known := _NAMES.get(name):
        return known
    if name.startswith("dockerfile."):
        return "dockerfile"
    stem, _, suffix = name.rpartition(".")
    return _SUFFIXES.get(suffix) if stem else None


def vendored_or_generated(path: str) -> str | None:
    """Why analyses and retrieval leave a file out: `vendored`, `generated`, `minified`, `lock file`; None: they do not.

    `path` is the path inside its repository: a repository that lies in a folder called `vendor` was put there
    to be read.
    """
    *folders, name = path.lower().split("/")
    if not _VENDORED.isdisjoint(folders):
        return "vendored"
    packaged = any(folder.endswith((".egg-info", ".dist-info")) for folder in folders)
    if packaged or not _GENERATED.isdisjoint(folders) or name.endswith(_GENERATED_ENDINGS):
        return "generated"
    if name.endswith(_MINIFIED_ENDINGS):
        return "minified"
    return "lock file" if name in _LOCKS else None


def is_test(path: str) -> bool:
    """Whether a file tests other files, by where it lies and what it is called."""
    return _TEST_PATH.search(path) is not None
