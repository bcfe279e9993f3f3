"""The hub that models come from, through its own client: which files a revision holds, and their bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cortex_pipelines.errors import CortexError
from cortex_pipelines.models.lock import Pinned, PinnedModel
from cortex_pipelines.models.manifest import File, Model, safe_path

# Seconds that the hub may take to say what a repository holds.
ASK_SECONDS = 30.0
# Of a connection that breaks, less than this is lost.
CHUNK_BYTES = 2**18


class HubError(CortexError):
    """The hub does not give what is asked for; says why, and what helps."""


class HubUnreachable(HubError):
    """The hub does not answer, or not now: trying again may help."""


@dataclass(frozen=True)
class Bytes:
    """The bytes of a file from `start` on."""

    start: int
    chunks: Iterator[bytes]


class Hub:
    """The hub at `endpoint`, or the one that HF_ENDPOINT names. Without a token it is asked as nobody."""

    def __init__(self, token: str | None = None, endpoint: str | None = None) -> None:
        self._token: str | bool = token or False
        self._endpoint = endpoint

    def resolve(self, model: Model) -> PinnedModel:
        """What the files of a model are at its revision, as the hub tells it, held to what the manifest says."""
        if model.gated and not self._token:
            raise HubError(f"{model.repository} is gated: accept its terms at the hub and set HF_TOKEN")
        from huggingface_hub import HfApi, RepoFile

        _ask_for_nothing_else()
        api = HfApi(endpoint=self._endpoint, token=self._token)
        with self._told(model, model.revision):
            commit = api.model_info(model.repository, revision=model.revision, timeout=ASK_SECONDS).sha
            tree = [*api.list_repo_tree(model.repository, recursive=True, revision=commit)]
        if not commit:
            raise HubError(f"the hub does not say which commit {model.revision} of {model.repository} is")
        held = [entry for entry in tree if isinstance(entry, RepoFile)]
        found: dict[str, Pinned] = {}
        for asked in model.files:
            matching = [entry for entry in held if asked.matches(entry.path)]
            if not matching and not asked.optional:
                raise HubError(f"{model.repository} holds no {asked.path} at {model.revision}")
            found |= {entry.path: _pinned(model, asked, entry) for entry in matching}
        return PinnedModel(
            repository=model.repository, revision=model.revision, commit=commit, files=tuple(found.values())
        )

    @contextmanager
    def open(self, model: Model, commit: str, path: str, start: int) -> Iterator[Bytes]:
        """The bytes of a file from `start` on; from 0 where the hub, or a mirror, cannot begin in the middle."""
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

        _ask_for_nothing_else()
        address = hf_hub_url(model.repository, path, revision=commit, endpoint=self._endpoint)
        # Compressed on the way, neither ranges nor sizes would be those of the file.
        headers = build_hf_headers(token=self._token) | {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
        # Redirects are followed anew each time, since where they lead is signed for minutes only. The token is not
        # sent on to another host.
        with self._told(model, path), get_session().stream("GET", address, headers=headers, timeout=seconds) as answer:
            if start and answer.status_code == 416:
                # It has no such rest: what is there belongs to another file.
                yield Bytes(0, iter(()))
                return
            hf_raise_for_status(answer)
            told = str(answer.headers.get("Content-Range", ""))
            begun = start if answer.status_code == 206 and told.startswith(f"bytes {start}-") else 0
            if answer.status_code == 206 and not begun and start:
                raise HubError(f"{model.repository}: the hub sends another part of {path} than was asked for")
            yield Bytes(begun, answer.iter_bytes(CHUNK_BYTES))

    @contextmanager
    def _told(self, model: Model, what: str) -> Iterator[None]:
        """The client's errors as ours, in one line."""
        from huggingface_hub import errors

        name = model.repository
        # The root of what its HTTP library raises, whichever library that is in its version.
        network: Any = next(base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
        try:
            yield
        except errors.OfflineModeIsEnabled:
            raise HubError(f"{name} is not all here, and HF_HUB_OFFLINE is set: unset it, or copy the files") from None
        except errors.GatedRepoError:
            helps = "the owner of HF_TOKEN has to accept its terms" if self._token else "set HF_TOKEN"
            raise HubError(f"{name} is gated: {helps}") from None
        except errors.RepositoryNotFoundError:
            helps = "the token of HF_TOKEN may not see it" if self._token else "or it is private: set HF_TOKEN"
            raise HubError(f"the hub has no {name}, {helps}") from None
        except errors.RevisionNotFoundError:
            raise HubError(f"{name} has no revision {model.revision}") from None
        except errors.RemoteEntryNotFoundError:
            raise HubError(f"{name} holds no {what}") from None
        except errors.HfHubHTTPError as error:
            raise _refused(name, what, error.response.status_code, bool(self._token)) from None
        except network as error:
            raise HubUnreachable(f"the hub does not give {name}, {what}: {error or type(error).__name__}") from None


def _ask_for_nothing_else() -> None:
    """Keep the hub's client from telling what this machine runs, and from fetching a list to find that out."""
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True


def _refused(name: str, what: str, status: int, with_token: bool) -> HubError:
    if status in (401, 403):
        helps = "the token of HF_TOKEN may not" if with_token else "set HF_TOKEN"
        return HubError(f"the hub refuses {name}, {what} ({status}): {helps}")
    if status in (408, 429) or status >= 500:
        return HubUnreachable(f"the hub cannot give {name}, {what}, now ({status})")
    return HubError(f"the hub does not give {name}, {what} ({status})")


def _pinned(model: Model, asked: File, entry: Any) -> Pinned:
    """What the hub says of a file; where the manifest says something else, neither is believed."""
    try:
        path = safe_path(entry.path)
    except ValueError as error:
        raise HubError(f"{model.repository} holds a file whose name is refused: {entry.path[:100]!r} {error}") from None
    size = entry.lfs.size if entry.lfs else entry.size
    sha256 = entry.lfs.sha256 if entry.lfs else None
    for what, ours, theirs in (("size", asked.size, size), ("sha256", asked.sha256, sha256)):
        if ours is not None and theirs is not None and ours != theirs:
            raise HubError(f"{model.repository}, {path}: its {what} is {theirs} at the hub and {ours} in the manifest")
    return Pinned(path=path, size=size, sha256=sha256 or asked.sha256, blob=None if entry.lfs else entry.blob_id)
