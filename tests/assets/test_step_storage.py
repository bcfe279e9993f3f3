"""What steps hand each other on S3: every product's, and nothing that runs code."""

import os
import pickle

import dagster as dg
import pytest

from cortex_pipelines.definitions import build_definitions
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.resources.step_storage import StepStorage, step_storage
from cortex_pipelines.settings import load_settings
from cortex_pipelines.stairs import Batch, Item, Stair
from cortex_pipelines.store import StoreError, put_object
from tests.servers import s3


@pytest.fixture
def bucket():
    with s3.bucket("bucket"):
        yield "s3://bucket/team"


def written(storage, value):
    """A value that one step handed to the next."""
    output = dg.build_output_context(step_key="step", name="result", run_id="run")
    storage.handle_output(output, value)
    return dg.build_input_context(upstream_output=output)


def test_a_step_gets_what_another_made(bucket):
    storage = StepStorage(store=bucket)
    batch = Batch("name", (Item("not UTF-8: \udcff.md", "key", 3),), "group")
    assert storage.load_input(written(storage, batch)) == batch
    assert storage.load_input(written(storage, {"before": "x", "of": [1, None, ("a",)]})) == {
        "before": "x",
        "of": [1, None, ("a",)],
    }


class Hostile:
    def __reduce__(self):
        return os.system, ("false",)


def test_what_somebody_else_put_there_runs_no_code(bucket):
    storage = StepStorage(store=bucket)
    there = written(storage, "fine")
    put_object(f"{bucket}/.steps/run/step/result", pickle.dumps(Hostile()))
    with pytest.raises(pickle.UnpicklingError, match=r"system is nothing that a step hands on"):
        storage.load_input(there)


def test_what_is_not_there_is_one_line(bucket):
    storage = StepStorage(store=bucket)
    output = dg.build_output_context(step_key="other", name="result", run_id="run")
    with pytest.raises(StoreError, match=r"s3://bucket/team/\.steps/run/other/result"):
        storage.load_input(dg.build_input_context(upstream_output=output))


@pytest.mark.heavy
def test_whatever_a_product_hands_on_can_be_read_again(bucket, sample, variables):
    definitions = build_definitions(load_settings(variables, env_file=None), variables)
    job = definitions.resolve_implicit_global_asset_job_def()
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("projects", ["kestrel"])
    done = job.execute_in_process(
        instance=instance, partition_key="kestrel", resources={"io_manager": StepStorage(store=bucket)}
    )
    assert len(done.get_asset_materialization_events()) == len(PRODUCTS)
    stairs = {product.name for product in PRODUCTS if isinstance(product.source, Stair)}
    assert {name.split("/")[3].split(".")[0] for name in s3.keys("bucket")} >= stairs


@pytest.mark.parametrize(
    ("executor", "store", "there"),
    [
        ("k8s", "s3://bucket/team", True),
        ("celery", "s3://bucket/team/", True),
        ("docker", "store", False),
        ("multiprocess", "s3://bucket/team", False),
        ("in_process", "s3://bucket/team", False),
    ],
)
def test_it_is_used_where_steps_may_share_no_folder(executor, store, there):
    told = step_storage(load_settings({"CORTEX_EXECUTOR": executor, "CORTEX_STORE": store}, env_file=None))
    assert told == ({"io_manager": StepStorage(store="s3://bucket/team")} if there else {})
