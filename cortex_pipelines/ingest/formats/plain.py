"""Text that is taken as it is: prose, source code, logs, data, subtitles; and the chats among it."""

from cortex_pipelines.ingest.chats import parse_chat
from cortex_pipelines.ingest.parsing import Parsed


def parse_plain(media_type: str, text: str) -> Parsed:
    """A text."""
    return Parsed(media_type, text, messages=parse_chat(text) if media_type == "text/plain" else ())
