#!/usr/bin/env bash
# Build llama.cpp's server from the sources that a Python package ships, for the tests of its router mode.
#   tests/servers/build_llama_server.sh FOLDER     leaves FOLDER/llama-server; three minutes on two cores
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
[[ -x $folder/llama-server ]] && exit 0
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
bin=$work/venv/bin
"$bin/python" -m pip install --quiet --disable-pip-version-check scikit-build-core setuptools wheel cmake==3.31.10 ninja==1.13.0
"$bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --no-binary llama-cpp-python --dest "$work" llama-cpp-python==0.3.36
tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
source=$(echo "$work"/llama_cpp_python-*/vendor/llama.cpp)
export PATH=$bin:$PATH
# It is to be built fast, not to be fast.
cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE=-O1 \
    -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF >"$work/log"
ninja -C "$work/build" llama-server >>"$work/log" || { tail -n 20 "$work/log" >&2; exit 1; }
cp "$work/build/bin/llama-server" "$folder/llama-server.unfinished"
mv "$folder/llama-server.unfinished" "$folder/llama-server"
