"""A real llama.cpp server in its router mode, for the tests marked `router`; LLAMA_SERVER names its program.

tests/servers/build_llama_server.sh builds one in a few minutes.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

READY_SECONDS = 30


@contextmanager
def serving(
    program: str, folder: Path, models: Mapping[str, tuple[Path, int]], more: Sequence[str] = ()
) -> Iterator[str]:
    """The address of a router for models by name, each with its GGUF and its context in tokens."""
    presets = [f"[{name}]\nmodel = {path}\nctx-size = {context}\n" for name, (path, context) in models.items()]
    (folder / "presets.ini").write_text("\n".join(presets))
    with started(program, folder, ["--models-preset", str(folder / "presets.ini"), *more]) as (url, _):
        yield url


@contextmanager
def started(program: str, folder: Path, arguments: Sequence[str]) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address of a llama.cpp server with these arguments, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, *arguments, "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    with (folder / "router.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until and process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        else:
            raise RuntimeError(f"the server did not start: {(folder / 'router.log').read_text()[-2_000:]}")
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
