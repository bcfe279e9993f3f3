"""On Kubernetes: what the manifest promises, by the schemas of Kubernetes, and a run that the real launcher starts."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher.base import WorkerStatus

from cortex_pipelines import __version__
from cortex_pipelines.executors import executor
from cortex_pipelines.settings import VARIABLES, load_settings
from cortex_pipelines.store import ProjectStore
from tests.servers import cluster as kubernetes
from tests.servers import s3

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
K8S = OPS / "k8s"
BIN = Path(sys.executable).parent


def manifests():
    """Every object of the manifest."""
    return [
        one
        for file in ("shared.yaml", "cortex.yaml", "postgres.yaml")
        for one in yaml.safe_load_all((K8S / file).read_text())
    ]


def objects(kind):
    """Those of one kind, by name."""
    return {one["metadata"]["name"]: one for one in manifests() if one["kind"] == kind}


def pods():
    """The pod of each Deployment and StatefulSet."""
    return {
        name: one["spec"]["template"] for kind in ("Deployment", "StatefulSet") for name, one in objects(kind).items()
    }


def containers():
    """Each container by `pod/container`, with its pod's specification."""
    return {
        f"{name}/{container['name']}": (container, pod["spec"])
        for name, pod in pods().items()
        for container in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
    }


def pods_labels(name):
    return pods()[name]["metadata"]["labels"]


def config_maps():
    return {name: one["data"] for name, one in objects("ConfigMap").items()}


def instance():
    return yaml.safe_load(config_maps()["cortex-instance"]["dagster.yaml"])


def launcher():
    return instance()["run_launcher"]["config"]


def image_variables():
    """What the image of ops/Dockerfile sets."""
    told = (OPS / "Dockerfile").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ENV (.*)$", told, re.MULTILINE)
    return dict(word.split("=", 1) for word in line.split())


CONTAINERS = pytest.mark.parametrize("name", containers())


@pytest.mark.parametrize("version", ["1.30", kubernetes.VERSION])
def test_kubernetes_takes_every_object(version):
    for one in manifests():
        kubernetes_validate.validate(one, version, strict=True)
        # Where it goes is said by whoever applies it.
        assert "namespace" not in one["metadata"]
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "cortex-pipelines"


@CONTAINERS
def test_each_container_is_shut_in(name):
    container, pod = containers()[name]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == (999 if name.startswith("postgres") else 10001)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_a_run_is_as_shut_in_as_the_code():
    code, pod = containers()["code/code"]
    assert launcher()["security_context"] == code["securityContext"]
    told = launcher()["run_k8s_config"]["pod_spec_config"]
    assert told["securityContext"] == pod["securityContext"]
    assert launcher()["resources"]["limits"]["memory"]
    assert launcher()["only_allow_user_defined_k8s_config_fields"] == {}
    assert launcher()["only_allow_user_defined_env_vars"] == []


def test_a_run_has_the_variables_and_volumes_of_the_code():
    code, pod = containers()["code/code"]
    named = [next(iter(source.values()))["name"] for source in code["envFrom"]]
    assert named == launcher()["env_config_maps"] + launcher()["env_secrets"]
    of_code = {mount["mountPath"] for mount in code["volumeMounts"]} - {"/opt/dagster/home"}
    assert {mount["mountPath"] for mount in launcher()["volume_mounts"]} == of_code
    claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in pod["volumes"]}
    for volume in launcher()["volumes"]:
        # SQLite is in the state, and is no pod's but its own.
        shared = None if volume["name"] == "state" else claims[volume["name"]]
        assert volume.get("persistentVolumeClaim") == shared
    assert {mount["name"] for mount in launcher()["volume_mounts"] if mount.get("readOnly")} == {"inbox"}
    # Whatever the image says of folders is mounted.
    told = [value for name, value in image_variables().items() if name.startswith("CORTEX_") and name != "CORTEX_STORE"]
    assert set(told) <= of_code


@CONTAINERS
def test_whatever_a_container_names_is_there(name):
    container, pod = containers()[name]
    maps, given = config_maps(), {"cortex-database", "cortex-settings"}
    for source in container["envFrom"]:
        kind, told = next(iter(source.items()))
        assert told["name"] in (maps if kind == "configMapRef" else given)
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {
        claim["metadata"]["name"] for claim in objects("StatefulSet")["postgres"]["spec"]["volumeClaimTemplates"]
    }
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    for volume in pod["volumes"]:
        if claimed := volume.get("persistentVolumeClaim"):
            assert claimed["claimName"] in objects("PersistentVolumeClaim")
        if mapped := volume.get("configMap"):
            assert mapped["name"] in maps
    assert pod.get("serviceAccountName", "cortex") in objects("ServiceAccount")
    assert container["image"] == (
        "postgres:16-bookworm" if name.startswith("postgres") else f"cortex-pipelines:{__version__}"
    )


def test_runs_are_started_from_the_image_of_the_code():
    code, _ = containers()["code/code"]
    assert {"name": "DAGSTER_CURRENT_IMAGE", "value": code["image"]} in code["env"]


def test_what_serves_says_whether_it_does_and_only_the_daemon_is_one_alone():
    for name, (container, _) in containers().items():
        if name == "daemon/daemon":
            assert "livenessProbe" in container
        elif name != "daemon/migrate":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name
    assert objects("Deployment")["daemon"]["spec"]["strategy"] == {"type": "Recreate"}


def test_every_service_leads_to_a_pod_and_the_workspace_to_a_service():
    labelled = {name: pod["metadata"]["labels"] for name, pod in pods().items()}
    for name, service in objects("Service").items():
        assert service["spec"]["selector"].items() <= labelled[name].items()
        ports = {port["name"] for port in containers()[f"{name}/{name}"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    (place,) = yaml.safe_load(config_maps()["cortex-instance"]["workspace.yaml"])["load_from"]
    assert place["grpc_server"] == {"host": "code", "port": 4000, "location_name": "cortex_pipelines"}
    assert place == yaml.safe_load((OPS / "workspace.docker.yaml").read_text())["load_from"][0]
    assert config_maps()["cortex-database"]["POSTGRES_HOST"] in objects("Service")
    assert objects("Ingress") == {}


def test_nobody_reaches_a_pod_but_who_is_named():
    policies = objects("NetworkPolicy")
    assert "ingress" not in policies["cortex"]["spec"]
    ours = policies["cortex"]["spec"]["podSelector"]["matchLabels"].items()
    assert all(ours <= pod["metadata"]["labels"].items() for pod in pods().values())
    assert ours <= launcher()["labels"].items()


def test_the_instance_differs_from_the_one_of_compose_in_its_launcher_and_how_many_runs_go_at_once(tmp_path):
    first, second = instance(), yaml.safe_load((OPS / "dagster.postgres.yaml").read_text())
    assert (first.pop("run_launcher")["class"], second.pop("run_launcher")["class"]) == (
        "K8sRunLauncher",
        "DockerRunLauncher",
    )
    # More machines hold more runs.
    assert first["concurrency"].pop("runs") != second["concurrency"].pop("runs")
    assert first == second
    (tmp_path / "dagster.yaml").write_text(config_maps()["cortex-instance"]["dagster.yaml"])
    dagster_instance_config(str(tmp_path))


def test_whoever_reads_the_instance_has_the_variables_it_names():
    named = set(re.findall(r"env: (\w+)", config_maps()["cortex-instance"]["dagster.yaml"]))
    for name, (container, _) in containers().items():
        if name.startswith("postgres"):
            continue
        maps = {
            key
            for source in container["envFrom"]
            if "configMapRef" in source
            for key in config_maps()[source["configMapRef"]["name"]]
        }
        assert named <= maps | {variable["name"] for variable in container["env"]} | {"POSTGRES_PASSWORD"}, name


def test_no_secret_is_in_a_file_and_every_setting_is_one():
    assert objects("Secret") == {}
    told = config_maps()["cortex-settings"]
    load_settings({name: value for name, value in told.items() if name in VARIABLES}, env_file=None)
    for name in told:
        assert name in VARIABLES or name in ("AWS_REGION", "AWS_ENDPOINT_URL"), name
    for file in sorted(K8S.iterdir()):
        text = file.read_text()
        for name, value in re.findall(r"(\w*(?:PASSWORD|SECRET_ACCESS_KEY|API_KEY|TOKEN))\"?: *(\S+)", text):
            assert value == "{env:", (file.name, name)
        # Images come from where the operator says.
        assert not re.search(r"\b(docker|ghcr|quay|gcr)\.io\b", text)


def snake(told):
    """The chart's names as Dagster has them."""
    return {re.sub("([A-Z])", r"_\1", name).lower(): value for name, value in told.items()}


def values():
    """The values for Dagster's Helm chart."""
    return yaml.safe_load((K8S / "values.yaml").read_text())


def test_the_values_of_the_chart_say_what_the_manifest_says():
    told = values()
    pods = {"daemon": told["dagsterDaemon"], "webserver": told["dagsterWebserver"]}
    (pods["code"],) = told["dagster-user-deployments"]["deployments"]
    for name, pod in pods.items():
        container, spec = containers()[f"{name}/{name}"]
        assert f"{pod['image']['repository']}:{pod['image']['tag']}" == container["image"]
        assert pod["podSecurityContext"] == spec["securityContext"]
        assert pod["securityContext"] == container["securityContext"]
        assert pod["resources"] == container["resources"]
        assert pod["labels"].items() <= pods_labels(name).items()
        mounts = [mount for mount in container["volumeMounts"] if mount["name"] != "instance"]
        assert pod["volumeMounts"] == mounts
        assert pod["volumes"] == [volume for volume in spec["volumes"] if volume["name"] != "instance"]
    chart = told["runLauncher"]["config"]["customRunLauncher"]["config"]
    # The chart has a secret of its own for the database.
    given = {"env_config_maps": ["cortex-settings"], "env_secrets": ["cortex-settings"]}
    assert chart == launcher() | given | {"postgres_password_secret": "cortex-database"}
    own = instance()
    assert told["additionalInstanceConfig"] == {name: own[name] for name in ("local_artifact_storage", "nux")}
    assert told["concurrency"]["runs"]["maxConcurrentRuns"] == own["concurrency"]["runs"]["max_concurrent_runs"]
    assert told["concurrency"]["pools"]["defaultLimit"] == own["concurrency"]["pools"]["default_limit"]
    for name in ("runRetries", "runMonitoring"):
        assert snake(told["dagsterDaemon"][name]) == own[next(iter(snake({name: None})))]
    for kind in ("sensor", "schedule"):
        assert told["retention"][kind]["purgeAfterDays"] == own["retention"][kind]["purge_after_days"]


@pytest.mark.kubectl
def test_the_kustomization_sets_one_image_everywhere(tmp_path):
    shutil.copytree(K8S, tmp_path / "k8s")
    file = tmp_path / "k8s" / "kustomization.yaml"
    told = file.read_text()
    assert told.count(f"newTag: {__version__}") == 1
    file.write_text(told.replace(f"newTag: {__version__}", "newName: registry.local/cortex\n    newTag: next"))
    done = subprocess.run(["kubectl", "kustomize", file.parent], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(done.stdout))
    assert len(made) == len(manifests())
    for one in made:
        kubernetes_validate.validate(one, kubernetes.VERSION, strict=True)
    assert set(re.findall(r"\S*cortex\S*:(?:next|" + re.escape(__version__) + ")", done.stdout)) == {
        "registry.local/cortex:next"
    }
    (code,) = [one for one in made if (one["kind"], one["metadata"]["name"]) == ("Deployment", "code")]
    environ = code["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "DAGSTER_CURRENT_IMAGE", "value": "registry.local/cortex:next"} in environ


# From here on the real launcher, executor and client, against a cluster whose pods are processes of this machine.


@pytest.mark.heavy
def test_a_run_outside_a_cluster_is_told_in_one_line(home, sample, variables):
    environ = variables | {
        "PATH": os.environ["PATH"],
        "DAGSTER_HOME": str(home),
        "CORTEX_EXECUTOR": "k8s",
        "CORTEX_PROJECTS": "kestrel",
    }
    command = [BIN / "dagster", "asset", "materialize", "--select", "documents", "--partition", "kestrel"]
    command += ["-m", "cortex_pipelines.definitions"]
    done = subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "CORTEX_EXECUTOR=k8s works in a run that" in line]
    assert line.endswith("set CORTEX_EXECUTOR to in_process or multiprocess")


@pytest.fixture
def bucket():
    """The variables that lead to the bucket of the manifest."""
    with s3.bucket("cortex") as given:
        yield given


@pytest.fixture
def cluster(bucket, tmp_path):
    """A cluster with the objects of the manifest, and the Secrets of its operator."""
    settings = config_maps()["cortex-settings"] | {"CORTEX_PROJECTS": "kestrel", "CORTEX_EXECUTOR": "k8s"}
    address = {"AWS_ENDPOINT_URL": bucket["AWS_ENDPOINT_URL"]}
    return kubernetes.Cluster(
        tmp_path / "cluster",
        image_variables(),
        config_maps() | {"cortex-settings": settings | address},
        {
            "cortex-database": {"POSTGRES_PASSWORD": "of-the-database"},
            "cortex-settings": {**bucket, "ARGOS_LLM_API_KEY": "of-a-lane"},
        },
        set(objects("PersistentVolumeClaim")),
    )


@pytest.fixture
def launching(cluster, home, monkeypatch):
    """The instance of the manifest, which asks this cluster, and with SQLite for PostgreSQL; its variables."""
    with kubernetes.serving(cluster) as kubeconfig:
        told = instance()
        del told["storage"], told["concurrency"]["runs"]
        told["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
        # Launched at once: no daemon takes it from the queue.
        told["run_coordinator"] = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
        logs = str(cluster.claim("cortex-logs"))
        (home / "dagster.yaml").write_text(yaml.safe_dump(told).replace("/data/logs", logs))
        monkeypatch.setenv("POD_NAMESPACE", "default")
        yield {"PATH": os.environ["PATH"], "DAGSTER_HOME": str(home), "POD_NAMESPACE": "default"}


LAUNCH = """
    mutation($given: ExecutionParams!) {
        launchRun(executionParams: $given) { __typename ... on LaunchRunSuccess { run { runId } } }
    }
"""


def launch(environ, *assets):
    """Launch a run as the web UI does; its id."""
    selected = {
        "repositoryLocationName": "cortex_pipelines.definitions",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": [asset]} for asset in assets],
    }
    tags = [{"key": "dagster/partition", "value": "kestrel"}]
    given = {"selector": selected, "runConfigData": {}, "executionMetadata": {"tags": tags}}
    command = [
        BIN / "dagster-graphql",
        "-m",
        "cortex_pipelines.definitions",
        "-t",
        LAUNCH,
        "-v",
        json.dumps({"given": given}),
    ]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert "LaunchRunSuccess" in done.stdout, done.stdout + done.stderr[-3_000:]
    return re.search(r'"runId": "([^"]+)"', done.stdout)[1]


def allowed():
    """What the role of the manifest allows, as `resource verb`."""
    rules = objects("Role")["cortex"]["rules"]
    return {f"{resource} {verb}" for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


# Some 30 CPU-seconds.
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_run_and_its_steps_are_pods_that_share_the_bucket_and_no_folder_of_steps(
    cluster, launching, built_sample, bucket, tmp_path
):
    shutil.copytree(built_sample / "kestrel", cluster.claim("cortex-inbox") / "kestrel", symlinks=True)
    code = cluster.config_maps["cortex-settings"] | bucket
    code["DAGSTER_CURRENT_IMAGE"] = f"cortex-pipelines:{__version__}"
    run_id = launch(launching | code, "documents")
    pod = f"dagster-run-{run_id}"
    deadline = time.monotonic() + 400
    while "active" in cluster.jobs[pod]["status"]:
        assert time.monotonic() < deadline, cluster.log(pod)[-3_000:]
        time.sleep(0.2)
    with dg.DagsterInstance.from_config(launching["DAGSTER_HOME"]) as there:
        run = there.get_run_by_id(run_id)
        assert run.status is dg.DagsterRunStatus.SUCCESS, cluster.log(pod)[-3_000:]
        # What the daemon and the web UI ask of a run, and its end.
        assert there.run_launcher.check_run_worker_health(run).status is WorkerStatus.SUCCESS
        assert "Debug information for pod" in there.run_launcher.get_run_worker_debug_info(run)
        jobs = dict(cluster.jobs)
        started = cluster.pods[pod]
        assert there.run_launcher._api_client.delete_job(pod, "default")
        assert "Could not find job" in there.run_launcher.get_run_worker_debug_info(run)
    assert cluster.asked == allowed()
    assert len(jobs) == 1 + 3
    assert all(job["status"] == {"succeeded": 1} for job in jobs.values())
    for name, job in jobs.items():
        told = job["spec"]["template"]["spec"]
        (container,) = told["containers"]
        assert container["image"] == code["DAGSTER_CURRENT_IMAGE"]
        assert container["securityContext"] == launcher()["security_context"]
        assert told["securityContext"]["runAsNonRoot"] is True
        # Only the run may start pods, and its steps go with it.
        assert told["automountServiceAccountToken"] is (name == pod)
        if name != pod:
            (owner,) = job["metadata"]["ownerReferences"]
            assert owner["uid"] == started["metadata"]["uid"]
        assert not re.search("of-the-database|of-s3|of-a-lane", json.dumps(job))
    # One product, by the bucket alone: every pod had a state of its own.
    assert ProjectStore("s3://cortex/store", "kestrel", tmp_path / "elsewhere").snapshot().count("documents") > 0
    handed = [name for name in s3.keys("cortex") if name.startswith(f"store/.steps/{run_id}/")]
    assert any("documents_plan/batch/b0000" in name for name in handed)
    assert not (cluster.claim("cortex-logs") / "storage").exists()
    assert (cluster.claim("cortex-reports") / "kestrel" / "documents.md").is_file()


def test_who_starts_a_run_chooses_no_image_and_no_account(launching):
    hostile = {"pod_spec_config": {"service_account_name": "admin"}, "container_config": {"image": "other"}}
    run = dg.DagsterRun(job_name="job", tags={"dagster-k8s/config": json.dumps(hostile)})
    refused = pytest.raises(Exception, match=r"violated the allowed list: .*service_account_name")
    with dg.DagsterInstance.from_config(launching["DAGSTER_HOME"]) as there, refused:
        there.run_launcher.get_container_context_for_run(run)
    assert set(executor("k8s").config_schema.config_type.fields) == {"max_concurrent"}
