"""Single objects beside the database, for whoever shares a store on S3."""

from cortex_pipelines.store.database import file_system
from cortex_pipelines.store.errors import told_of


def put_object(uri: str, content: bytes) -> None:
    """Write an object, which appears whole."""
    with told_of(uri):
        system, path = file_system(uri)
        with system.open_output_stream(path) as file:
            file.write(content)


def get_object(uri: str) -> bytes:
    """The content of an object."""
    with told_of(uri):
        system, path = file_system(uri)
        with system.open_input_file(path) as file:
            return bytes(file.read())
