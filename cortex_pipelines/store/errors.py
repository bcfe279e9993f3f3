"""What can go wrong with a store, each as one line that says what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from cortex_pipelines.errors import CortexError


class StoreError(CortexError):
    """The store cannot be read or written."""


class StoreBusy(StoreError):
    """Another run is writing the project."""


class PublicationMoved(StoreError):
    """Another writer published in between; nothing of this one was."""


_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and run again, nothing that was published is lost",
    errno.EROFS: "its file system is read-only: set CORTEX_STORE to a folder that can be written",
    errno.EACCES: "it may not be written: give this user the right, or set CORTEX_STORE to another folder",
    errno.EPERM: "it may not be written: give this user the right, or set CORTEX_STORE to another folder",
    errno.EFBIG: "a file grew past the limit of this process: raise it (ulimit -f) and run again",
}
# LanceDB tells an operating-system error by its words only.
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Operation not permitted": errno.EPERM,
    "File too large": errno.EFBIG,
}


@contextmanager
def told_of(place: str) -> Iterator[None]:
    """Turn the errors of the database and of the operating system into one line about `place`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        number = getattr(error, "errno", None)
        if number not in _ADVICE:
            number = next((code for words, code in _WORDS.items() if words in str(error)), None)
        if number is not None:
            raise StoreError(f"the store {place}: {_ADVICE[number]}") from error
        raise StoreError(f"the store {place} failed: {str(error)[:300]}") from error
