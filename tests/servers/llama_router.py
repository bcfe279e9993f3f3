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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--models-preset", str(folder / "presets.ini"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--threads", "1", *more]
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
            raise RuntimeError(f"the router did not start: {(folder / 'router.log').read_text()[-2_000:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
