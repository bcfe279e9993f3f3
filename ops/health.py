"""Whether a part of a deployment answers: `python health.py code|web|engine`, run in its container by compose.

Dagster's own checks import all of Dagster, 3 to 4 s of CPU each time.
"""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

ENGINE = Path("/var/run/docker.sock")


def code() -> str | None:
    """The code location serves."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel("127.0.0.1:4000") as channel:
        asked = health_pb2.HealthCheckRequest(service="DagsterApi")
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=5)
        except grpc.RpcError as error:
            return f"the code location does not answer: {error.code()}"
    return None if answer.status == health_pb2.HealthCheckResponse.SERVING else "the code location does not serve yet"


def web(url: str = "http://127.0.0.1:3000/server_info") -> str | None:
    """The web server answers."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310
            return None if answer.status == 200 else f"the web server answers {answer.status}"
    except OSError as error:
        return f"the web server does not answer: {error}"


def engine(path: Path = ENGINE) -> str | None:
    """The container engine's socket is there, and this user may use it."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return None if b" 200 " in connection.recv(256) else "the container engine does not answer"
    except PermissionError:
        return (
            "this user may not use the container engine's socket: set DOCKER_GID to the socket's group "
            "(stat -c %g /var/run/docker.sock), or use docker-compose.default-launcher.yml"
        )
    except OSError as error:
        return f"no container engine at {path}: {error}"


CHECKS: dict[str, Callable[[], str | None]] = {"code": code, "web": web, "engine": engine}


if __name__ == "__main__":
    wrong = CHECKS[sys.argv[1]]()
    if wrong:
        print(wrong, file=sys.stderr)
        sys.exit(1)
