"""A bucket on a real S3 interface, of moto, on a loopback port."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def bucket(name: str) -> Iterator[dict[str, str]]:
    """The variables that lead to it, which are set in this process too; it goes with the block."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "of-s3",
        # As a compose file hands on what is not set.
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patched:
        for variable, value in given.items():
            patched.setenv(variable, value)
        boto3.client("s3").create_bucket(Bucket=name)
        try:
            yield given
        finally:
            server.stop()


def keys(name: str) -> list[str]:
    """The names of the objects in a bucket."""
    import boto3

    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=name)
    return [one["Key"] for page in pages for one in page.get("Contents", [])]
