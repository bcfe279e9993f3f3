"""Chats as messages: exports of vendors, and transcripts in text or Markdown."""

from cortex_pipelines.ingest.chats.exports import people_of, read_export
from cortex_pipelines.ingest.chats.transcripts import Message, parse_chat

__all__ = ["Message", "parse_chat", "people_of", "read_export"]
