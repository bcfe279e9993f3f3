"""The inference servers: what their files promise, whether it fits, and burst mode as the deployment sets it."""

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import yaml

from cortex_pipelines.lanes import Lanes
from cortex_pipelines.lanes.client import run
from cortex_pipelines.lanes.memory import CacheType, Geometry, overhead
from cortex_pipelines.lanes.resolution import resolve
from cortex_pipelines.models.manifest import Profile, load_manifest
from cortex_pipelines.names import Lane
from cortex_pipelines.settings import VARIABLES, load_settings
from tests.ops.engine import make_base, own_engine
from tests.servers import llama_router, vllm
from tests.servers.faults import Answer, nobody, serving
from tests.servers.keepers import Router, Vllm
from tests.servers.tiny_gguf import write_tiny_gguf

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
HEALTH = OPS / "inference" / "health.sh"
MODELS = OPS / "inference" / "models.ini"
PROFILES = pytest.mark.parametrize("profile", list(Profile))
TWO_BRAINS = pytest.mark.parametrize("profile", [Profile.STRIX, Profile.NVIDIA])
GB = 10**9
# What a user has to say: which image, which group.
SAID = {"LLAMACPP_IMAGE": "llama:test", "RENDER_GID": "105"}
HELLO = [{"role": "user", "content": "Say something."}]


def services(profile):
    return yaml.safe_load((OPS / f"docker-compose.{profile}.yml").read_text())["services"]


SERVICES = pytest.mark.parametrize(
    ("profile", "name"), [(profile, name) for profile in Profile for name in services(profile)]
)


def filled(text, **given):
    """A value of a compose file with its variables replaced: by what is given, else by their defaults."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1], found[2]), text)


def flags(profile, name, **given):
    """The flags that a server is started with."""
    command = [filled(part, **given) for part in services(profile)[name]["command"]]
    found = {}
    for at, part in enumerate(command):
        flag, equals, value = part.partition("=")
        if flag.startswith("--"):
            beside = command[at + 1] if at + 1 < len(command) and not command[at + 1].startswith("--") else ""
            found[flag] = value if equals else beside
    return found


def presets():
    reader = configparser.ConfigParser()
    reader.read_string(MODELS.read_text().replace("version = 1\n", "", 1))
    common = dict(reader["*"])
    return {name: common | dict(reader[name]) for name in reader.sections() if name != "*"}


START = {name for name, preset in presets().items() if preset.get("load-on-startup") == "true"}


def lanes_of(profile):
    """The settings that the profile's variables make."""
    return load_settings({}, env_file=OPS / "inference" / f"{profile}.env")


# What the files promise.


@SERVICES
def test_each_server_is_no_root_and_as_shut_in_as_the_other_services(profile, name):
    service = services(profile)[name]
    assert int(filled(service["user"]).split(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode"} & set(service)
    assert service["pids_limit"] > 0
    assert re.fullmatch(r"\d+g", filled(service["mem_limit"]))
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    for port in service["ports"]:
        assert filled(port).startswith("127.0.0.1:")


@SERVICES
def test_each_image_is_pinned_by_a_tag_or_has_to_be_named(profile, name):
    image = services(profile)[name]["image"]
    if image.startswith("${LLAMACPP_IMAGE:?"):
        return
    repository, tag = filled(image).split(":")
    # No host: images come from where the operator says.
    assert "." not in repository.split("/")[0]
    assert "latest" not in tag


@pytest.mark.parametrize("path", sorted((OPS / "inference").iterdir()), ids=lambda path: path.name)
def test_no_file_names_a_registry_or_a_folder_of_somebodys_machine(path):
    assert not re.search(r"\b[\w-]+\.(io|com|org|net)\b|/(home|root|Users|mnt)/", path.read_text())


def test_the_reference_box_has_the_graphics_unit_and_the_ports_of_the_lanes():
    box = services(Profile.STRIX)
    assert set(box) == {"inference-vllm", "inference-vllm-coder", "inference-llamacpp"}
    for service in box.values():
        assert service["devices"] == ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"]
        assert len(service["group_add"]) == 2
    published = {name: [filled(port).split(":")[1] for port in service["ports"]] for name, service in box.items()}
    assert published["inference-vllm"] == ["8000"]
    assert published["inference-llamacpp"] == ["8080", "8081"]


@PROFILES
def test_every_lane_asks_a_server_of_the_profile_for_a_model_by_the_name_it_has_there(profile):
    settings = lanes_of(profile)
    names = {}
    for name in services(profile):
        given = flags(profile, name)
        served = given.get("--served-model-name") or given.get("--alias")
        names[name] = {served} if served else set(presets())
    for lane in Lane:
        for endpoint in resolve(settings, lane).endpoints:
            host, port = endpoint.url.removeprefix("http://").split(":")
            assert endpoint.model in names[host], lane
            assert port == flags(profile, host)["--port"]
    if settings.burst_model:
        host = resolve(settings, Lane.SUPER_READER).endpoints[0].url.removeprefix("http://").split(":")[0]
        assert settings.burst_model in names[host]
        assert "load-on-startup" not in presets()[settings.burst_model]
    assert set(settings.model_hosts) <= set(services(profile))


@PROFILES
def test_the_variables_of_a_profile_reach_code_daemon_and_runs(profile):
    compose = yaml.safe_load((OPS / "docker-compose.yml").read_text())["services"]
    runs = yaml.safe_load((OPS / "dagster.postgres.yaml").read_text())["run_launcher"]["config"]["env_vars"]
    for name in lanes_of(profile).origin:
        assert compose["code"]["environment"][name] == f"${{{name}:-}}"
        assert compose["daemon"]["environment"][name] == f"${{{name}:-}}"
        assert name in runs


@PROFILES
def test_every_model_that_is_served_is_in_the_manifest_of_the_profile_where_a_download_puts_it(profile):
    there = {model.folder: model for model in load_manifest().models if profile in model.profiles}
    for name in services(profile):
        command = " ".join(services(profile)[name]["command"])
        files = [preset["model"] for preset in presets().values()] if "--models-preset" in command else []
        for path in files or re.findall(r"/models/\S+", command):
            kind, folder, *file = path.removeprefix("/models/").split("/")
            model = there[f"{kind}/{folder}"]
            if file:
                assert [file[0]] == [each.path for each in model.files]


def test_nothing_that_is_loaded_at_the_start_but_the_reader_has_a_non_commercial_licence():
    closed = {model.name for model in load_manifest().models if model.non_commercial}
    for name, preset in presets().items():
        if preset["model"].split("/")[3] in closed:
            assert name.startswith("UltraLong-8B-4M")
    # And the other burst model is the one that may be used for anything.
    assert presets()["MegaBeam-Mistral-7B-512k-burst"]["model"] == presets()["MegaBeam-Mistral-7B-512k"]["model"]


@SERVICES
def test_its_health_is_a_token_of_the_model_that_it_serves(profile, name):
    test = services(profile)[name]["healthcheck"]["test"]
    given = flags(profile, name)
    assert test[:3] == ["CMD", "sh", "/inference/health.sh"]
    assert test[4] == f"http://127.0.0.1:{given['--port']}"
    served = given.get("--served-model-name") or given.get("--alias")
    # Without a name: all of models.ini.
    assert test[5:] == ([served] if served else [])
    assert ("vllm" in name) is (test[3] == "vllm")


def test_the_documentation_names_every_variable_of_the_files():
    told = (ROOT / "docs" / "inference.md").read_text()
    used = {
        name
        for profile in Profile
        for name in re.findall(r"\$\{(\w+)", (OPS / f"docker-compose.{profile}.yml").read_text())
    }
    assert [name for name in sorted(used - set(VARIABLES)) if f"`{name}`" not in told] == []


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
@pytest.mark.parametrize("over", [[], ["docker-compose.yml"]], ids=["alone", "overlay"])
@PROFILES
def test_compose_takes_the_file_alone_and_as_an_overlay(profile, over, tmp_path):
    env = tmp_path / "env"
    # As docs/inference.md has it: the profile's variables are added to .env.
    told = {"POSTGRES_PASSWORD": "word", **SAID}
    lines = [f"{name}={value}" for name, value in told.items()]
    env.write_text("\n".join(lines) + "\n" + (OPS / "inference" / f"{profile}.env").read_text())
    files = [part for file in [*over, f"docker-compose.{profile}.yml"] for part in ("-f", file)]
    command = ["docker-compose", "--env-file", str(env), *files, "config"]
    done = subprocess.run(
        command, cwd=OPS, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert set(services(profile)) <= set(config["services"])
    if over:
        settings = lanes_of(profile)
        for name in settings.origin:
            for service in ("code", "daemon"):
                assert config["services"][service]["environment"][name]
        # The lanes' own reader finds in the container what it finds in the file.
        given = {
            k: v for k, v in config["services"]["code"]["environment"].items() if k.startswith(("CORTEX_", "ARGOS"))
        }
        assert [resolve(load_settings(given, env_file=None), lane).endpoints for lane in Lane] == [
            resolve(settings, lane).endpoints for lane in Lane
        ]


# What fits. Shapes are those of the models' published config.json; sizes of GGUF files are those of the manifest's
# quantisations as their repositories list them; the 4-bit weights are what vLLM 0.29 said they take (17.94 GiB).

AWQ = Geometry("Qwen3-30B-A3B at 4 bits", 19_263_000_000, (4,) * 48, 128, 128, 262_144, 0)
FP8 = Geometry("Qwen3-30B-A3B-FP8", 31_200_000_000, (4,) * 48, 128, 128, 262_144, 0)
ULTRA = Geometry("UltraLong-8B-4M Q5_K_M", 5_730_000_000, (8,) * 32, 128, 128, 4_194_304, 0)
BEAM = Geometry("MegaBeam-7B-512k Q4_K_M", 4_370_000_000, (8,) * 32, 128, 128, 524_288, 0)
# 4 of its 40 layers have attention.
GRANITE = Geometry("granite-4.0-h-small Q4_K_M", 19_476_621_984, (8,) * 4 + (0,) * 36, 128, 128, 131_072, 0)
MICRO = Geometry("granite-4.0-micro Q4_K_M", 2_100_000_000, (8,) * 40, 64, 64, 131_072, 0)
# The state of granite's 36 other layers, for each slot and each checkpoint of it: 128 heads of 64 by 128 values, and
# the 3 last inputs of a convolution over 8,448 channels, in four bytes each.
STATE = 36 * (128 * 64 * 128 + 3 * 8_448) * 4
SHAPES = {"granite": GRANITE, "MegaBeam": BEAM, "UltraLong": ULTRA}


def taken(name):
    """What a preset takes in memory, in bytes."""
    preset = presets()[name]
    geometry = next(shape for start, shape in SHAPES.items() if name.startswith(start))
    each = geometry.kv_bytes_per_token(CacheType(preset["cache-type-k"]), CacheType(preset["cache-type-v"]))
    states = 0
    if geometry is GRANITE:
        states = int(preset["parallel"]) * (1 + int(preset["ctx-checkpoints"])) * STATE
    weights = geometry.weights_bytes
    return weights + overhead(weights) + int(preset["ctx-size"]) * each + states


def normal():
    return sum(map(taken, START))


def test_a_window_is_one_that_its_model_has():
    for name, preset in presets().items():
        geometry = next(shape for start, shape in SHAPES.items() if name.startswith(start))
        assert int(preset["ctx-size"]) <= geometry.window, name
        # Else a slot would have a part of it.
        assert preset["kv-unified"] == "true"
        # The health check has a slot of its own.
        assert int(preset["parallel"]) >= 2
        # What is not counted here is not there.
        assert (preset["fit"], preset["cache-ram"]) == ("off", "0")


@TWO_BRAINS
def test_a_router_holds_the_usual_models_and_loads_none_but_what_a_lane_names(profile):
    usual = [name for name, preset in presets().items() if "load-on-startup" in preset]
    assert flags(profile, "inference-llamacpp")["--models-max"] == str(len(usual))
    assert "--no-models-autoload" in flags(profile, "inference-llamacpp")


def brain(profile, name, geometry, **given):
    """What a vLLM takes: weights, buffers, and the cache it is told to have, which has to hold its window."""
    told = flags(profile, name, **given)
    cache = int(told["--kv-cache-memory-bytes"])
    # A block of 16 tokens is vLLM's own.
    assert cache >= (int(told["--max-model-len"]) + 16) * geometry.kv_bytes_per_token()
    return geometry.weights_bytes + overhead(geometry.weights_bytes) + cache


BRAINS = ("inference-vllm", "inference-vllm-coder")


def test_on_the_reference_box_each_part_fits_its_share_and_all_together():
    brains = [brain(Profile.STRIX, name, AWQ) for name in BRAINS]
    assert max(brains) <= 24 * GB
    assert sum(brains) <= 48 * GB
    assert 55 * GB < normal() <= 64 * GB
    assert sum(brains) + normal() <= 112 * GB
    limits = [filled(service["mem_limit"]) for service in services(Profile.STRIX).values()]
    assert sorted(limits) == ["24g", "24g", "64g"]


def test_on_the_reference_box_one_brain_alone_has_its_whole_window():
    told = (ROOT / "docs" / "inference.md").read_text()
    given = dict(re.findall(r"^(VLLM_(?:WINDOW|KV_BYTES|MEMORY))=(\S+)$", told, re.MULTILINE))
    assert given["VLLM_WINDOW"] == str(AWQ.window)
    assert given["VLLM_MEMORY"] == "48g"
    assert brain(Profile.STRIX, "inference-vllm", AWQ, **given) <= 48 * GB


@pytest.mark.parametrize(
    ("level", "model"),
    [(1, "UltraLong-8B-4M-burst"), (2, "UltraLong-8B-4M-burst-2"), (1, "MegaBeam-Mistral-7B-512k-burst")],
)
def test_a_burst_model_fits_beside_what_sleeping_servers_keep(level, model):
    settings = lanes_of(Profile.STRIX)
    if model == settings.burst_model:
        assert settings.sleep_level == level
    # In one memory level 1 gives back the cache alone; of level 2 the buffers are taken to stay, which is the most.
    kept = overhead(AWQ.weights_bytes) + (AWQ.weights_bytes if level == 1 else 0)
    assert taken(model) + 2 * kept <= 112 * GB
    limit = filled(services(Profile.STRIX)["inference-llamacpp"]["mem_limit"])
    if level == 2:
        [limit] = re.findall(
            r"`LLAMACPP_MEMORY` .*`(\d+g)` with the burst model", (ROOT / "docs" / "inference.md").read_text()
        )
    assert taken(model) <= int(limit.removesuffix("g")) * 2**30
    usual = presets()[model.split("-burst")[0]]
    assert int(presets()[model]["ctx-size"]) >= 3 * int(usual["ctx-size"])
    if level == 2:
        # Which is why there is one for each level.
        assert taken(model) + 2 * (overhead(AWQ.weights_bytes) + AWQ.weights_bytes) > 112 * GB


def test_the_documentation_says_what_is_computed_here():
    told = (ROOT / "docs" / "inference.md").read_text()
    lines = {line.split(" | ")[0].removeprefix("| ").split(",")[0]: line for line in told.splitlines() if "|" in line}

    def gb(size):
        return f"{size / GB:.1f} GB"

    for name in START:
        window = f"{int(presets()[name]['ctx-size']):,}"
        assert window in lines[name]
        assert gb(taken(name)) in lines[name]
    for name in BRAINS:
        served = flags(Profile.STRIX, name)["--served-model-name"]
        assert gb(brain(Profile.STRIX, name, AWQ)) in lines[served]
    for level, model in ((1, "UltraLong-8B-4M-burst"), (2, "UltraLong-8B-4M-burst-2")):
        kept = overhead(AWQ.weights_bytes) + (AWQ.weights_bytes if level == 1 else 0)
        assert f"`{model}`, {int(presets()[model]['ctx-size']):,} tokens" in lines[f"`{level}`"]
        assert gb(taken(model) + 2 * kept) in lines[f"`{level}`"]
    assert gb(normal()).removesuffix(" GB") in told


def test_on_two_cards_of_80_gb_each_has_room_for_its_part():
    brains = [brain(Profile.NVIDIA, name, FP8) for name in BRAINS]
    assert sum(brains) <= 80 * GB
    assert max(normal(), taken(lanes_of(Profile.NVIDIA).burst_model)) <= 80 * GB
    # Asleep, the weights lie in main memory.
    for name in BRAINS:
        assert int(services(Profile.NVIDIA)[name]["mem_limit"].removesuffix("g")) * GB > FP8.weights_bytes + 4 * GB


def test_on_a_laptop_the_model_fits_its_limit():
    told = flags(Profile.LAPTOP, "inference-llamacpp")
    cache = int(told["--ctx-size"]) * MICRO.kv_bytes_per_token()
    assert MICRO.weights_bytes + overhead(MICRO.weights_bytes) + cache <= 6 * GB


# Health.


def health(kind, url, *models, **given):
    command = ["sh", str(HEALTH), kind, url, *models]
    environ = {"PATH": os.environ["PATH"], "HEALTH_SECONDS": "1", "HEALTH_MODELS": str(MODELS), **given}
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@needs_curl
def test_a_server_that_gives_a_token_is_well_and_one_that_gives_none_is_not():
    with serving(Answer(text="Yes", finish="length", events=1)) as server:
        assert health("vllm", server.url, "m").returncode == 0
        assert server.asked[0]["max_tokens"] == 1
    for bad in (Answer(status=500, body=b"oh"), Answer(finish=None), Answer(stall=1), Answer(status=404, body=b"{}")):
        with serving(bad, posts={}) as server:
            done = health("vllm", server.url, "m")
            assert (done.returncode, done.stdout) == (1, "")
            assert "m gives no token" in done.stderr
    assert health("vllm", nobody(), "m").returncode == health("llama", nobody(), "m").returncode == 1


@needs_curl
@pytest.mark.parametrize("level", [1, 2])
def test_a_vllm_that_sleeps_is_well(level):
    with serving(keeper=Vllm(["m"], {"m"})) as server:
        httpx.post(f"{server.url}/sleep?level={level}&mode=wait").raise_for_status()
        assert health("vllm", server.url, "m").returncode == 0
        assert not server.asked


@needs_curl
def test_models_that_are_not_in_memory_are_well_and_are_not_loaded_by_the_question():
    keeper = Router(["a", "b"], {"a"})
    with serving(Answer(text="Yes", finish="length", events=1), keeper=keeper) as server:
        assert health("llama", server.url, "a", "b").returncode == 0
        assert [asked["model"] for asked in server.asked] == ["a"]
    assert keeper.commands == []
    with serving(Answer(status=500, body=b"oh"), keeper=keeper) as server:
        assert "a gives no token" in health("llama", server.url, "b", "a").stderr


@needs_curl
def test_without_names_all_models_of_the_presets_are_asked():
    keeper = Router(list(presets()), set(presets()))
    with serving(Answer(text="Yes", finish="length", events=1), keeper=keeper) as server:
        assert health("llama", server.url).returncode == 0
        assert [asked["model"] for asked in server.asked] == list(presets())
        assert "no model is named" in health("llama", server.url, HEALTH_MODELS=os.devnull).stderr


# Burst mode, as the deployment sets it.

BURST = """
import json, sys, time
from cortex_pipelines.lanes import Lanes
from cortex_pipelines.settings import load_settings
with Lanes(load_settings(json.loads(sys.argv[1]), env_file=None)).residency.burst():
    print("room", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("level", ["1", "2"])
def test_a_burst_of_the_reference_box_is_restored_after_a_kill(level, tmp_path):
    """The variables of strix.env, with the loopback in place of the services' names."""
    with ExitStack() as servers:
        keepers = {
            name: Vllm([served], {served})
            for name in BRAINS
            if (served := flags(Profile.STRIX, name)["--served-model-name"])
        }
        keepers["inference-llamacpp"] = Router(list(presets()), set(START))
        # Each has an address of its own: that they are one machine, only CORTEX_MODEL_HOSTS says.
        hosts = {name: f"127.0.0.{number}" for number, name in enumerate(keepers, 1)}
        urls = {
            name: servers.enter_context(serving(keeper=keeper, host=hosts[name])).url
            for name, keeper in keepers.items()
        }
        text = (OPS / "inference" / "strix.env").read_text()
        for name in sorted(hosts, key=len, reverse=True):
            text = re.sub(rf"http://{name}:\d+", urls[name], text)
            text = re.sub(rf"\b{name}\b(?!-)", hosts[name], text)
        lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
        variables = dict(line.split("=", 1) for line in lines)
        variables |= {"CORTEX_STATE": str(tmp_path / "state"), "CORTEX_SLEEP_LEVEL": level, "CORTEX_LANE_CACHE": "off"}
        before = {name: set(keeper.loaded) for name, keeper in keepers.items()}

        job = subprocess.Popen(
            [sys.executable, "-c", BURST, json.dumps(variables)], stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        assert job.stdout.readline() == "room\n"
        wide = variables["CORTEX_BURST_MODEL"]
        held = {name: set(keeper.loaded) for name, keeper in keepers.items()}
        assert held == {"inference-llamacpp": {wide}} | {name: set() for name in BRAINS}
        assert [keepers[name].level for name in BRAINS] == [int(level)] * 2
        # A sleeping server and one whose models were let go of are well: nobody starts them anew.
        if shutil.which("curl"):
            for name in BRAINS:
                assert health("vllm", urls[name], *keepers[name].models).returncode == 0

        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        ours = Lanes(load_settings(variables, env_file=None))
        assert run(ours.residency.recover())
        assert {name: set(keeper.loaded) for name, keeper in keepers.items()} == before
        assert not any(keeper.garbled for keeper in keepers.values())
        done = ours.complete(Lane.CODER, HELLO, max_tokens=50)
        assert done.attempts[-1].model == "Qwen3-Coder-30B-A3B-Instruct"


# Against a real llama.cpp server.


def router_arguments(profile, folder, *, without=""):
    """What the service is started with, with tiny models in place of the real ones."""
    for preset in presets().values():
        path = folder / preset["model"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() and not (without and without in path.name):
            write_tiny_gguf(path, says="Yes.", context=ULTRA.window)
    text = MODELS.read_text().replace("/models/", f"{folder}/models/")
    (folder / "models.ini").write_text(text)
    command = [part.replace("/inference/models.ini", f"{folder}/models.ini") for part in our_command(profile)]
    assert f"{folder}/models.ini" in command
    return command


def our_command(profile):
    """The command of llama.cpp's service, but for address and port."""
    command = [filled(part) for part in services(profile)["inference-llamacpp"]["command"]]
    assert command[:4] == ["--host", "0.0.0.0", "--port", "8080"]
    return command[4:]


def rows(url):
    return {row["id"]: row for row in httpx.get(f"{url}/v1/models", timeout=10).json()["data"]}


def in_memory(url):
    return {name for name, row in rows(url).items() if row["status"]["value"] == "loaded"}


def wait_until_loaded(url, names):
    deadline = time.monotonic() + 60
    while in_memory(url) != names:
        assert time.monotonic() < deadline, rows(url)
        time.sleep(0.1)


@pytest.mark.router
@TWO_BRAINS
def test_a_real_router_takes_the_presets_and_serves_them(profile, tmp_path):
    arguments = router_arguments(profile, tmp_path)
    with llama_router.started(os.environ["LLAMA_SERVER"], tmp_path, arguments) as (url, _):
        wait_until_loaded(url, START)
        listed = rows(url)
        assert set(listed) == set(presets())
        for name, preset in presets().items():
            told = listed[name]["status"]["args"]
            # Each key has become the flag it names; some have an older name that is said.
            for key in ("ctx-size", "cache-type-k", "cache-type-v", "parallel", "cache-ram", "fit", "flash-attn"):
                assert told[told.index(f"--{key}") + 1] == preset[key]
            assert "--kv-unified" in told
        for name in START:
            # The whole window for each slot.
            assert listed[name]["meta"]["n_ctx"] == int(presets()[name]["ctx-size"])
            body = {"model": name, "messages": HELLO, "max_tokens": 5}
            said = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).raise_for_status()
            assert said.json()["choices"][0]["message"]["content"] == "Yes."
        assert health("llama", url, HEALTH_SECONDS="10").returncode == 0
        assert in_memory(url) == START


@pytest.mark.router
def test_without_the_file_of_ultralong_the_others_are_served_and_lanes_and_burst_mode_do_without(tmp_path):
    arguments = router_arguments(Profile.STRIX, tmp_path, without="UltraLong")
    there = START - {"UltraLong-8B-4M"}
    with (
        llama_router.started(os.environ["LLAMA_SERVER"], tmp_path, arguments) as (url, _),
        serving(Answer(text="The brain.")) as brain,
    ):
        wait_until_loaded(url, there)
        assert health("llama", url, HEALTH_SECONDS="10").returncode == 0
        text = (OPS / "inference" / "strix.env").read_text()
        text = text.replace("http://inference-llamacpp:8080", url)
        text = re.sub(r"http://inference-vllm(-coder)?:8000", brain.url, text)
        (tmp_path / "env").write_text(f"{text}CORTEX_STATE={tmp_path}/state\nCORTEX_LANE_CACHE=off\n")
        ours = Lanes(load_settings({}, env_file=tmp_path / "env"))
        assert ours.complete(Lane.GOVERNANCE, HELLO, max_tokens=5).text == "Yes."
        done = ours.complete(Lane.SUPER_READER, HELLO, max_tokens=5, timeout=60)
        assert (done.text, done.lane) == ("The brain.", Lane.ORCHESTRATOR)
        # What docs/inference.md says to do then.
        told = (ROOT / "docs" / "inference.md").read_text()
        reader = dict(re.findall(r"^(\w+)=(MegaBeam-\S+)$", told, re.MULTILINE))
        assert set(reader) == {"ARGOS_LANE_SUPER_READER_MODEL", "CORTEX_BURST_MODEL"}
        ours = Lanes(load_settings(reader, env_file=tmp_path / "env"))
        with ours.residency.burst() as wide:
            assert in_memory(url) == {reader["CORTEX_BURST_MODEL"]}
            assert wide.complete(Lane.SUPER_READER, HELLO, max_tokens=5).text == "Yes."
            # As after a restart of the router in a burst.
            httpx.post(f"{url}/models/unload", json={"model": reader["CORTEX_BURST_MODEL"]}).raise_for_status()
            for name in there:
                httpx.post(f"{url}/models/load", json={"model": name}).raise_for_status()
            wait_until_loaded(url, there)
            assert wide.complete(Lane.SUPER_READER, HELLO, max_tokens=6).text == "Yes."
            assert in_memory(url) == {reader["CORTEX_BURST_MODEL"]}
        assert in_memory(url) == there


@pytest.mark.router
def test_a_real_server_that_is_busy_is_well_and_one_that_hangs_is_not(tmp_path):
    command = our_command(Profile.LAPTOP)
    at = command.index("--model") + 1
    # It does not end by itself.
    command[at] = str(write_tiny_gguf(tmp_path / "model.gguf"))
    alias = command[command.index("--alias") + 1]
    with (
        llama_router.started(os.environ["LLAMA_SERVER"], tmp_path, command) as (url, process),
        ExitStack() as others,
    ):
        assert health("llama", url, alias, HEALTH_SECONDS="10").returncode == 0
        body = {"model": alias, "messages": HELLO, "max_tokens": 15_000, "ignore_eos": True, "stream": True}
        for _ in range(int(command[command.index("--parallel") + 1])):
            others.enter_context(httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30))
        slots = httpx.get(f"{url}/slots", timeout=10).json()
        assert all(slot["is_processing"] for slot in slots)
        assert health("llama", url, alias).returncode == 0
        process.send_signal(signal.SIGSTOP)
        try:
            assert "gives no token" in health("llama", url, alias).stderr
        finally:
            process.send_signal(signal.SIGCONT)


# Against a real vLLM, on the CPU.

PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.reasoning import ReasoningParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
names = ("model_tag", "served_model_name", "max_model_len", "kv_cache_memory_bytes", "enable_sleep_mode")
parser = make_arg_parser(FlexibleArgumentParser())
for command in json.loads(sys.argv[1]):
    told = parser.parse_args(command)
    validate_parsed_serve_args(told)
    if told.reasoning_parser:
        ReasoningParserManager.get_reasoning_parser(told.reasoning_parser)
    print("parsed " + json.dumps({name: getattr(told, name) for name in names}))
"""


@pytest.mark.vllm
@pytest.mark.heavy
def test_the_real_parser_understands_every_flag():
    started = [(profile, name) for profile in (Profile.STRIX, Profile.NVIDIA) for name in BRAINS]
    commands = [[filled(part) for part in services(profile)[name]["command"]] for profile, name in started]
    done = subprocess.run(
        [os.environ["VLLM_PYTHON"], "-c", PARSE, json.dumps(commands)],
        capture_output=True,
        text=True,
        env=os.environ | vllm.ENVIRON,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    parsed = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("parsed ")]
    ours = [flags(profile, name) for profile, name in started]
    assert parsed == [
        {
            "model_tag": command[0],
            "served_model_name": [told["--served-model-name"]],
            "max_model_len": int(told["--max-model-len"]),
            "kv_cache_memory_bytes": int(told["--kv-cache-memory-bytes"]),
            "enable_sleep_mode": True,
        }
        for command, told in zip(commands, ours, strict=True)
    ]


@pytest.mark.vllm
@pytest.mark.heavy
def test_the_health_of_a_real_vllm(tmp_path):
    with vllm.serving(os.environ["VLLM_PYTHON"], tmp_path) as url:
        assert health("vllm", url, vllm.MODEL, HEALTH_SECONDS="20").returncode == 0
        assert "gives no token" in health("vllm", url, "nobody").stderr
        for level in (1, 2):
            httpx.post(f"{url}/sleep?level={level}&mode=wait", timeout=30).raise_for_status()
            assert health("vllm", url, vllm.MODEL).returncode == 0
            httpx.post(f"{url}/wake_up", timeout=30).raise_for_status()
        # It hangs, and says that it is healthy.
        engine = engine_of(url)
        os.kill(engine, signal.SIGSTOP)
        try:
            assert httpx.get(f"{url}/health", timeout=10).status_code == 200
            assert "gives no token" in health("vllm", url, vllm.MODEL).stderr
        finally:
            os.kill(engine, signal.SIGCONT)
        # With more than it works on at once.
        body = {"model": vllm.MODEL, "messages": HELLO, "max_tokens": 400, "ignore_eos": True}
        with ThreadPoolExecutor(3) as busy:
            asked = [busy.submit(httpx.post, f"{url}/v1/chat/completions", json=body, timeout=120) for _ in range(3)]
            assert health("vllm", url, vllm.MODEL, HEALTH_SECONDS="1").returncode == 0
            assert [one.result().status_code for one in asked] == [200] * 3


def engine_of(url):
    """The process of the engine behind the server at this address."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    port = url.rsplit(":", 1)[1]
    servers = {pid for pid, _, said in rows if f"--port {port} " in f"{said} "}
    [engine] = [int(pid) for pid, parent, said in rows if parent in servers and "EngineCore" in said]
    return engine


# The laptop's file on a real engine: its image is made of Debian and the server that LLAMA_SERVER names.

DOCKERFILE = """
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends curl libgomp1 libstdc++6
COPY llama-server /app/llama-server
WORKDIR /app
ENTRYPOINT ["/app/llama-server"]
"""


@pytest.mark.docker
@pytest.mark.router
@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_the_laptops_server_comes_up_answers_and_leaves_nothing(tmp_path):
    models, image = tmp_path / "models", tmp_path / "image"
    model = models / "gguf" / "granite-4.0-micro" / "granite-4.0-micro-Q4_K_M.gguf"
    model.parent.mkdir(parents=True)
    image.mkdir()
    write_tiny_gguf(model, says="Yes.")
    # The service's user is nobody here.
    for folder in (tmp_path, *models.rglob("*")):
        folder.chmod(0o755)
    shutil.copyfile(os.environ["LLAMA_SERVER"], image / "llama-server")
    (image / "llama-server").chmod(0o755)
    (image / "Dockerfile").write_text(DOCKERFILE)
    with own_engine() as engine:
        build = ["docker", "build", "--quiet", "--network", "host", "--build-arg", f"BASE={make_base(engine)}"]
        engine.run(*build, "--tag", "llama:test", str(image))
        environ = SAID | {"ARGOS_MODELS_DIR": str(models), "POSTGRES_PASSWORD": "word"}
        compose = ["docker-compose", "--ansi", "never", "-p", "cortex-laptop", "-f", "docker-compose.laptop.yml"]
        try:
            engine.run(*compose, "up", "-d", environ=environ)
            container = engine.run(*compose, "ps", "-q", environ=environ, quiet=True).stdout.strip()
            deadline = time.monotonic() + 200
            while (state := health_of(engine, container)) != "healthy":
                assert state == "starting", engine.docker("logs", container)
                assert time.monotonic() < deadline, engine.docker("inspect", container)
                time.sleep(2)
            # As a lane in a container asks it, with the profile's variables.
            text = (OPS / "inference" / "laptop.env").read_text().replace("inference-llamacpp", "127.0.0.1")
            (tmp_path / "env").write_text(f"{text}CORTEX_STATE={tmp_path}/state\n")
            ours = Lanes(load_settings({}, env_file=tmp_path / "env"))
            done = ours.complete(Lane.GOVERNANCE, HELLO, max_tokens=5)
            assert (done.text, done.model) == ("Yes.", "granite-4.0-micro")
            assert (
                engine.docker("exec", container, "sh", "-c", "id -u; touch /app/x 2>&1 || true").split()[0] == "10001"
            )
            # Hanging is not health: the engine sees it.
            engine.docker("exec", container, "sh", "-c", "kill -STOP $(pidof llama-server)")
            probe = [
                "exec",
                "-e",
                "HEALTH_SECONDS=2",
                container,
                *services(Profile.LAPTOP)["inference-llamacpp"]["healthcheck"]["test"][1:],
            ]
            assert "gives no token" in engine.docker(*probe, check=False)
            engine.docker("exec", container, "sh", "-c", "kill -CONT $(pidof llama-server)")
        finally:
            engine.run(*compose, "down", "-v", environ=environ, check=False)
        assert engine.docker("ps", "-aq") == engine.docker("volume", "ls", "-q") == ""


def health_of(engine, container):
    return engine.docker("inspect", "--format", "{{.State.Health.Status}}", container, quiet=True)
