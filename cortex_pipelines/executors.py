"""What executes the steps of a run: this process, or the processes, containers, pods or workers of Dagster's own."""

import os
from typing import TYPE_CHECKING

import dagster as dg

from cortex_pipelines.errors import CortexError

if TYPE_CHECKING:
    from dagster._core.executor.base import Executor

# Executors whose steps may run on machines that share no folder.
ON_MACHINES = frozenset({"docker", "k8s", "celery"})
# The steps of one run that are pods at once; a staircase has about 16 batches.
STEP_PODS = 16


class ExecutorMissing(CortexError):
    """The package of the executor that `CORTEX_EXECUTOR` names is not installed."""


class NoCluster(CortexError):
    """`CORTEX_EXECUTOR=k8s` where there is no cluster to ask for pods."""


def executor(name: str) -> dg.ExecutorDefinition:
    """The executor of every run. In one process is the default: a process per step costs about 4 s of CPU each."""
    if name == "in_process":
        return dg.in_process_executor
    if name == "multiprocess":
        return dg.multiprocess_executor
    try:
        if name == "docker":
            from dagster_docker import docker_executor

            return docker_executor
        return _celery() if name == "celery" else _k8s()
    except ImportError:
        package = f"dagster-{name}"
        raise ExecutorMissing(f"CORTEX_EXECUTOR={name} needs the package {package}: pip install {package}") from None


def _celery() -> dg.ExecutorDefinition:
    from dagster_celery import celery_executor

    # By the variable's name, so that the address, which may hold a password, is in no run's configuration.
    url = {"env": "CORTEX_CELERY_URL"}
    given = {"broker": url, "backend": url} if os.environ.get("CORTEX_CELERY_URL") else {}
    return celery_executor.configured(given, name="celery")


def _k8s() -> dg.ExecutorDefinition:
    """A pod for each step, as the pod of the run, but without its right to start pods.

    Nothing but the number of pods is left to the configuration of a run: who starts one chooses no image, no account.
    """
    from dagster_k8s import k8s_job_executor

    def create(context: dg.InitExecutorContext) -> "Executor":
        _be_in_a_cluster(context.instance)
        assert k8s_job_executor.executor_creation_fn is not None
        return k8s_job_executor.executor_creation_fn(context)

    described = dg.ExecutorDefinition(
        "k8s",
        k8s_job_executor.config_schema,  # type: ignore[arg-type]  # what it is asked for is what it takes
        k8s_job_executor.get_requirements,
        create,
        k8s_job_executor.description,
    )
    return described.configured(
        lambda given: {
            **given,
            # The steps of a run whose pod was lost go with it.
            "enable_owner_references": True,
            "step_k8s_config": {"pod_spec_config": {"automount_service_account_token": False}},
        },
        name="k8s",
        config_schema={"max_concurrent": dg.Field(int, default_value=STEP_PODS)},
    )


def _be_in_a_cluster(instance: dg.DagsterInstance) -> None:
    from dagster_k8s import K8sRunLauncher
    from kubernetes.config import ConfigException

    try:
        there = isinstance(instance.run_launcher, K8sRunLauncher)
    except ConfigException:
        there = False
    if not there:
        raise NoCluster(
            "CORTEX_EXECUTOR=k8s works in a run that K8sRunLauncher started in a cluster (docs/scaling.md): "
            "on this machine set CORTEX_EXECUTOR to in_process or multiprocess"
        )
