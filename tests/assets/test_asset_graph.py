"""The asset graph in one process: products, checks, what a second run does, and what a failed check stops."""

import sys

import dagster as dg
import pytest

from cortex_pipelines.definitions import build_definitions, project_partitions
from cortex_pipelines.executors import ExecutorMissing, executor
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.settings import load_settings


@pytest.fixture
def materialize(variables):
    """Materialize every product of a project with the variables of the test's own folder."""
    definitions = build_definitions(load_settings(variables, env_file=None), variables)

    def run(project: str = "notes", raise_on_error: bool = False, **keywords) -> dg.ExecuteInProcessResult:
        instance = keywords.pop("instance", None) or dg.DagsterInstance.ephemeral()
        instance.add_dynamic_partitions("projects", [project])
        job = definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=instance, partition_key=project, raise_on_error=raise_on_error, **keywords
        )

    return run


@pytest.fixture
def notes(settings):
    folder = settings.inbox / "notes"
    folder.mkdir()
    (folder / "harbour.md").write_text("# Harbour\n\nThe ferry to Skagen leaves at seven every morning.\n")
    return folder


def metadata(result: dg.ExecuteInProcessResult, product: str) -> dict:
    event = next(e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(product))
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_every_product_is_materialized_with_its_report_and_every_check_speaks(materialize, notes, settings):
    result = materialize()
    assert result.success
    assert {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()} == {
        product.name for product in PRODUCTS
    }
    for product in PRODUCTS:
        assert metadata(result, product.name)["report"].startswith("# ")
        assert (settings.reports / "notes" / f"{product.name}.html").is_file()
    spoken = {(e.asset_key.to_user_string(), e.check_name) for e in result.get_asset_check_evaluations()}
    assert spoken == {(product.name, check) for product in PRODUCTS for check in product.checks}
    assert all(e.passed for e in result.get_asset_check_evaluations())


def test_a_bad_file_is_a_warning_that_names_it_and_the_run_succeeds(materialize, notes):
    (notes / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    result = materialize()
    assert result.success
    check = next(
        e
        for e in result.get_asset_check_evaluations()
        if (e.asset_key.to_user_string(), e.check_name) == ("documents", "quarantine")
    )
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "broken.pdf" in str({name: value.value for name, value in check.metadata.items()})


def test_a_blocking_check_that_fails_fails_the_run_and_stops_what_is_downstream(materialize, notes):
    (notes / "prd.md").write_text(
        "# Product requirements\n\n## Requirements\n\n"
        "- REQ-1: The service must disable TLS verification when it sends passwords.\n"
        "- REQ-2: The service must store readings for 30 days.\n"
    )
    result = materialize()
    assert not result.success
    failed = [e.check_name for e in result.get_asset_check_evaluations() if not e.passed]
    assert "no_blocking_findings" in failed


def test_nothing_new_maps_no_batch(materialize, notes):
    assert materialize().success
    again = materialize()
    assert again.success
    mapped = [e.step_key for e in again.all_events if e.step_key and "_map[" in e.step_key]
    assert mapped == []


def test_force_does_everything_again(materialize, notes):
    assert materialize().success
    again = materialize(run_config={"ops": {"documents": {"config": {"force": True}}}})
    assert [e.step_key for e in again.all_events if e.is_step_success and "documents_map[" in (e.step_key or "")]


def test_a_misspelt_option_is_refused_by_name(materialize, notes):
    with pytest.raises(dg.DagsterInvalidConfigError, match="forse"):
        materialize(run_config={"ops": {"documents": {"config": {"forse": True}}}}, raise_on_error=True)


def test_every_check_that_is_an_error_blocks(variables):
    definitions = build_definitions(load_settings(variables, env_file=None), variables)
    graph = definitions.resolve_asset_graph()
    for product in PRODUCTS:
        for check, blocking in product.checks.items():
            assert graph.get_check_spec(dg.AssetCheckKey(dg.AssetKey(product.name), check)).blocking is blocking


def test_projects_are_dynamic_partitions_and_static_where_they_are_named(variables):
    assert isinstance(project_partitions(load_settings(variables, env_file=None)), dg.DynamicPartitionsDefinition)
    named = project_partitions(load_settings({**variables, "CORTEX_PROJECTS": "a,b"}, env_file=None))
    assert isinstance(named, dg.StaticPartitionsDefinition)
    assert list(named.get_partition_keys()) == ["a", "b"]


def test_the_executor_is_the_one_that_is_named(monkeypatch):
    assert executor("in_process") is dg.in_process_executor
    assert executor("multiprocess") is dg.multiprocess_executor
    assert [executor(name).name for name in ("docker", "k8s", "celery")] == ["docker", "k8s", "celery"]
    monkeypatch.setitem(sys.modules, "dagster_k8s", None)
    with pytest.raises(ExecutorMissing, match="CORTEX_EXECUTOR=k8s needs the package dagster-k8s"):
        executor("k8s")
