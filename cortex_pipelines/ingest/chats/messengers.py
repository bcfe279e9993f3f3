"""Exports of Slack, Discord and Telegram: channels of people."""

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from cortex_pipelines.ingest.chats.fields import attached, mapping, moment, objects, one_line, placeholder, string
from cortex_pipelines.ingest.chats.reading import Reading
from cortex_pipelines.ingest.chats.transcripts import Said, fenced

_SLACK_TIME = re.compile(r"\d{9,11}\.\d{1,9}")
_SLACK_ID = re.compile(r"[UWBCGD][A-Z0-9]{2,20}")
# Everything else with a subtype is a notice: who joined, what the topic became.
_SLACK_SAID = ("", "bot_message", "me_message", "thread_broadcast", "reply_broadcast", "file_share", "file_comment")
_SLACK_MARK = re.compile(r"<(?P<kind>[@#!]?)(?P<what>[^<>|\n]{1,2000})(?:\|(?P<label>[^<>\n]{0,2000}))?>")
# A fence that begins or ends within a line
_SLACK_FENCE = re.compile(r"[^\S\n]*\n?```\n?(?P<code>.*?)\n?```[^\S\n]*\n?", re.S)
_DISCORD_NOTICES = (
    "RecipientAdd",
    "RecipientRemove",
    "Call",
    "ChannelNameChange",
    "ChannelIconChange",
    "ChannelPinnedMessage",
    "GuildMemberJoin",
)


def is_slack(message: Mapping[str, Any]) -> bool:
    stamped = _SLACK_TIME.fullmatch(string(message.get("ts"))) is not None
    return stamped and ("text" in message or "blocks" in message) and message.get("type", "message") == "message"


def read_slack(messages: Iterable[Mapping[str, Any]], reading: Reading) -> Iterator[Said]:
    """A day of a channel, each thread in one piece below the message it answers."""
    found = reading.first(filter(is_slack, messages))
    day = sorted(found, key=lambda message: float(message["ts"]))
    # What the messages tell of their writers serves where nobody says who is who.
    people = {}
    for message in day:
        profile = mapping(message.get("user_profile"))
        if name := _slack_name(profile):
            people[string(message.get("user"))] = name
    people.update(reading.people)
    threads = defaultdict(list)
    for message in day:
        if string(message.get("subtype")) not in _SLACK_SAID:
            reading.left_out["notices"] += 1
            continue
        threads[string(message.get("thread_ts")) or message["ts"]].append(message)
    path = PurePosixPath(reading.name.replace("\\", "/"))
    channel = one_line(path.parent.name or path.stem) or "channel"
    for root, thread in threads.items():
        replied = len(thread) > 1 or thread[0]["ts"] != root
        name = f"{channel}, thread of {moment(root)}" if replied else channel
        for message in thread:
            answers = "" if message["ts"] == root else root
            yield Said(
                _slack_speaker(message, people),
                moment(message["ts"]),
                _slack_text(message, people),
                name,
                message["ts"],
                answers,
            )


def slack_people(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Names by identifier of a `users.json` or `channels.json`; none when it is neither."""
    people = {}
    for item in items:
        key, name = string(item.get("id")), string(item.get("name"))
        if not _SLACK_ID.fullmatch(key) or not ("profile" in item or "members" in item or "created" in item):
            return {}
        people[key] = _slack_name(mapping(item.get("profile"))) or one_line(string(item.get("real_name"))) or name
    return people


def is_discord(channel: Mapping[str, Any]) -> bool:
    return isinstance(channel.get("guild"), dict) and any(
        "author" in message and "timestamp" in message for message in objects(channel.get("messages"))
    )


def read_discord(channels: Iterable[Mapping[str, Any]], reading: Reading) -> Iterator[Said]:
    for export in channels:
        guild, channel = (string(mapping(export.get(part)).get("name")) for part in ("guild", "channel"))
        thread = reading.thread(f"{guild} #{channel}".strip())
        for message in objects(export.get("messages")):
            if message.get("type") in _DISCORD_NOTICES:
                reading.left_out["notices"] += 1
                continue
            author = mapping(message.get("author"))
            speaker = string(author.get("nickname")) or string(author.get("name")) or "unknown"
            answers = string(mapping(message.get("reference")).get("messageId"))
            text = _discord_text(message)
            yield Said(speaker, moment(message.get("timestamp")), text, thread, string(message.get("id")), answers)


def is_telegram(chat: Mapping[str, Any]) -> bool:
    if chats := mapping(chat.get("chats")):
        return any(is_telegram(one) for one in objects(chats.get("list")) if "chats" not in one)
    return any("from_id" in message and "date" in message for message in objects(chat.get("messages")))


def read_telegram(exports: Iterable[Mapping[str, Any]], reading: Reading) -> Iterator[Said]:
    """One chat, or all of an account."""
    for export in exports:
        for chat in [export, *objects(mapping(export.get("chats")).get("list"))]:
            if not chat.get("messages"):
                continue
            thread = reading.thread(string(chat.get("name")))
            number = reading.number()
            for message in objects(chat.get("messages")):
                if message.get("type") != "message":
                    reading.left_out["notices"] += 1
                    continue
                answers = message.get("reply_to_message_id")
                yield Said(
                    string(message.get("from")) or "unknown",
                    moment(string(message.get("date_unixtime")) or message.get("date")),
                    _telegram_text(message),
                    thread,
                    f"{number}:{message.get('id')!s:.40}",
                    f"{number}:{answers!s:.40}" if answers else "",
                )


def _slack_name(profile: Mapping[str, Any]) -> str:
    return one_line(string(profile.get("display_name"))) or one_line(string(profile.get("real_name")))


def _slack_speaker(message: Mapping[str, Any], people: Mapping[str, str]) -> str:
    user = string(message.get("user"))
    bot = string(message.get("username")) or string(mapping(message.get("bot_profile")).get("name"))
    return people.get(user, "") or bot or user or string(message.get("bot_id")) or "unknown"


def _slack_text(message: Mapping[str, Any], people: Mapping[str, str]) -> str:
    text = string(message.get("text")) or "\n".join(_slack_blocks(message.get("blocks")))
    for attachment in objects(message.get("attachments")):
        told = [string(attachment.get(field)) for field in ("pretext", "title", "text")]
        told = [part for part in told if part] or [string(attachment.get("fallback"))]
        text += "\n" + "\n".join(told)
    text = _slack_markdown(text, people)
    for file in objects(message.get("files")):
        text += "\n" + attached(
            string(file.get("name")) or string(file.get("title")), string(file.get("mimetype")) or ""
        )
    return text


def _slack_markdown(text: str, people: Mapping[str, str]) -> str:
    text = _SLACK_MARK.sub(lambda mark: _slack_mark(mark, people), text)
    text = _SLACK_FENCE.sub(lambda block: f"\n{fenced(block['code'])}\n", text)
    return html.unescape(text) if "&" in text else text


def _slack_mark(mark: re.Match[str], people: Mapping[str, str]) -> str:
    kind, what, label = mark["kind"], mark["what"], mark["label"] or ""
    if kind == "@":
        return f"@{people.get(what, '') or label or what}"
    if kind == "#":
        return f"#{label or people.get(what, '') or what}"
    if kind == "!":
        return label or f"@{what.partition('^')[0]}"
    if what.startswith("mailto:") and label:
        return label
    return f"[{label}]({what})" if label and label != what else what


def _slack_blocks(blocks: object) -> Iterator[str]:
    """The texts of blocks, which bots send without another text; nested ones in order."""
    waiting = [*objects(blocks)][::-1]
    while waiting:
        block = waiting.pop()
        text = block.get("text")
        if isinstance(text, str):
            yield text
        nested: list[Mapping[str, Any]] = [text] if isinstance(text, dict) else []
        for field in ("fields", "elements"):
            nested += objects(block.get(field))
        waiting += nested[::-1]


def _discord_text(message: Mapping[str, Any]) -> str:
    parts = [string(message.get("content"))]
    forwarded = mapping(message.get("forwardedMessage"))
    if words := string(forwarded.get("content")):
        parts.append(f"{placeholder('forwarded')} {words}")
    for embed in objects(message.get("embeds")):
        title, url = string(embed.get("title")), string(embed.get("url"))
        parts += [f"[{title}]({url})" if title and url else title, string(embed.get("description"))]
    for file in [*objects(message.get("attachments")), *objects(forwarded.get("attachments"))]:
        parts.append(attached(string(file.get("fileName"))))
    parts += [placeholder("sticker", string(sticker.get("name"))) for sticker in objects(message.get("stickers"))]
    return "\n".join(part for part in parts if part)


def _telegram_text(message: Mapping[str, Any]) -> str:
    text = message.get("text")
    runs = text if isinstance(text, list) else [text]
    words = "".join(_telegram_run(run) for run in runs)
    medium = string(message.get("media_type")).replace("_", " ")
    if "photo" in message:
        words += "\n" + placeholder("image")
    elif medium or "file" in message:
        words += "\n" + placeholder(medium or "attachment", string(message.get("file_name")))
    return words


def _telegram_run(run: object) -> str:
    if isinstance(run, str):
        return run
    fields = mapping(run)
    text = string(fields.get("text"))
    if fields.get("type") == "pre":
        return f"\n{fenced(text, string(fields.get('language')))}\n"
    if fields.get("type") == "code":
        return f"`{text}`"
    if href := string(fields.get("href")):
        return f"[{text}]({href})"
    return text
