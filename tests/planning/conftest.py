"""A project whose documents and code are built as far as planning needs them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cortex_pipelines.products import PRODUCTS, build
from cortex_pipelines.settings import Settings
from cortex_pipelines.stairs import Outcome, Work
from cortex_pipelines.store import ProjectStore
from tests.ingest.git_building import make_repository


@pytest.fixture
def build_all(work: Work, folder: Path) -> Callable[..., dict[str, Outcome]]:
    """Write documents and a repository, and build every product of the project; the outcome of each."""

    def run(documents: Mapping[str, str] | None = None, code: Mapping[str, str] | None = None) -> dict[str, Outcome]:
        for name, text in (documents or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        if code:
            make_repository(folder / "service", dict(code))
        return {product.name: build(product, work) for product in PRODUCTS}

    return run


@pytest.fixture
def sample_work(sample: Path, settings: Settings) -> Work:
    """The sample project, with every product built."""
    work = Work("kestrel", settings, ProjectStore(settings.store, "kestrel", settings.state))
    for product in PRODUCTS:
        build(product, work)
    return work
