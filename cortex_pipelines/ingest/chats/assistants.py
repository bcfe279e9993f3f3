"""Exports of ChatGPT, Claude and Gemini: conversations of people with models."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cortex_pipelines.ingest.chats.fields import attached, mapping, moment, objects, placeholder, sequence, string
from cortex_pipelines.ingest.chats.reading import Reading
from cortex_pipelines.ingest.chats.transcripts import Said, fenced

# The language of blocks that hold what a program printed, which nobody wrote.
OUTPUT = "output"
# What a model thinks and what its maker puts before a conversation is not said in it.
_UNSAID = ("thoughts", "reasoning_recap", "user_editable_context", "model_editable_context")
# ChatGPT's marks of citations, entities and the like, in a private area of Unicode
_MARK = re.compile("\ue200(?P<kind>\\w+)\ue202(?P<what>[^\ue201\n]{0,2000})\ue201")
# "Apr 12, 2026, 3:34:31 PM UTC"
_ACTIVITY_TIME = re.compile(r".{0,30}\d{4}.{0,12}\d{1,2}:\d{2}.{0,20}")
_ZONES = {"UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
_PROMPT = re.compile(r"(?:Prompted|Asked|Said|Branched|Answered)(?: with:| Gemini:| Bard:)?\s+")
_NO_PROMPT = re.compile(r"(?:Used|Created|Added|Gave|Selected|Shared|Deleted|Viewed|Visited|Edited|Pinned|Renamed)\s")


def is_chatgpt(conversation: Mapping[str, Any]) -> bool:
    nodes = list(mapping(conversation.get("mapping")).values())
    return any("parent" in node or "children" in node for node in objects(nodes)) and any(
        "role" in mapping(mapping(node.get("message")).get("author")) for node in objects(nodes)
    )


def read_chatgpt(conversations: Iterable[Mapping[str, Any]], reading: Reading) -> Iterator[Said]:
    """Every branch of every conversation, the one last shown first."""
    for conversation in conversations:
        nodes = {key: node for key, node in mapping(conversation.get("mapping")).items() if isinstance(node, dict)}
        parents = {key: string(node.get("parent")) for key, node in nodes.items()}
        for key, node in nodes.items():
            for child in sequence(node.get("children")):
                if isinstance(child, str) and parents.get(child) == "" and child != key:
                    parents[child] = key
        said = {key: _chatgpt_message(mapping(node.get("message")), reading) for key, node in nodes.items()}
        current = string(conversation.get("current_node"))
        yield from _tree(parents, current, said, reading.thread(string(conversation.get("title"))), reading)


def is_claude(conversation: Mapping[str, Any]) -> bool:
    return any("sender" in message for message in objects(conversation.get("chat_messages")))


def read_claude(conversations: Iterable[Mapping[str, Any]], reading: Reading) -> Iterator[Said]:
    """Conversations, with branches where the export tells what answers what."""
    for conversation in conversations:
        parents: dict[str, str] = {}
        said: dict[str, Said | None] = {}
        for number, message in enumerate(objects(conversation.get("chat_messages"))):
            key = string(message.get("uuid")) or f"#{number}"
            key = f"{key}#{number}" if key in said else key
            parents[key] = string(message.get("parent_message_uuid"))
            speaker = string(message.get("sender")) or "unknown"
            text = _claude_text(message, reading)
            said[key] = Said(speaker, moment(message.get("created_at")), text, "") if text.strip() else None
        thread = reading.thread(string(conversation.get("name")))
        if any(parent in parents for parent in parents.values()):
            current = string(conversation.get("current_leaf_message_uuid"))
            current = current if current in parents else next(reversed(parents))
            yield from _tree(parents, current, said, thread, reading)
        else:
            yield from (Said(item.speaker, item.time, item.text, thread) for item in said.values() if item)


def is_gemini(activity: Mapping[str, Any]) -> bool:
    products = [activity.get("header"), *sequence(activity.get("products"))]
    named = any("gemini" in string(name).lower() or string(name) == "Bard" for name in products)
    return named and "title" in activity and "time" in activity


def read_gemini(activities: Iterable[Mapping[str, Any]], reading: Reading) -> Iterator[Said]:
    """Prompts and answers, the oldest first; the export does not tell conversations, so a day is a thread."""
    found = []
    for activity in reading.first(filter(is_gemini, activities)):
        answers = [string(item.get("html")) for item in objects(activity.get("safeHtmlItem"))]
        files = [attached(name) for name in sequence(activity.get("attachedFiles")) if isinstance(name, str)]
        title = "\n".join([string(activity.get("title")), *files])
        found.append((title, moment(activity.get("time")), "\n".join(answers)))
    yield from _activities(found, reading)


def read_gemini_page(page: str, reading: Reading) -> Iterator[Said]:
    """The same of `MyActivity.html`, where a cell holds prompt, time and answer one after another."""
    from selectolax.lexbor import LexborHTMLParser

    found = []
    for cell in LexborHTMLParser(page).css("div.outer-cell"):
        header, content = cell.css_first("div.header-cell"), cell.css_first("div.content-cell")
        if content is None or (header is not None and "gemini" not in header.text().lower()):
            continue
        lines, answer, time = [""], "", ""
        for node in content.iter(include_text=True):
            words = " ".join(node.text().split())
            if time:
                answer += node.html or ""
            elif node.tag == "br":
                lines.append("")
            elif node.tag == "-text" and not lines[-1] and _ACTIVITY_TIME.fullmatch(words):
                time = _activity_moment(words)
            else:
                lines[-1] += f" {words}"
        found.append(("\n".join(line.strip() for line in lines), time, answer))
    yield from _activities(found, reading)


def branches(parents: Mapping[str, str], current: str) -> Iterator[list[str]]:
    """Paths of a tree that together hold every node once, parents before children; a loop is cut.

    The first is the path to `current`; the others begin where they leave it, and follow the youngest child.
    """
    children = defaultdict(list)
    for key, parent in parents.items():
        if parent in parents:
            children[parent].append(key)
    seen: set[str] = set()
    path = []
    while current in parents and current not in seen:
        seen.add(current)
        path.append(current)
        current = parents[current]
    path.reverse()
    if path:
        yield path
    waiting = [key for key, parent in parents.items() if parent not in parents]
    waiting += [child for key in path for child in children[key]]
    # What no root leads to is a loop, and begins anywhere.
    for start in [*waiting, *parents]:
        begun = [start]
        while begun:
            branch = []
            key = begun.pop()
            while key not in seen:
                seen.add(key)
                branch.append(key)
                younger = [child for child in children[key] if child not in seen]
                if younger:
                    *others, key = younger
                    begun += others
            if branch:
                yield branch


def _tree(
    parents: Mapping[str, str], current: str, said: Mapping[str, Said | None], thread: str, reading: Reading
) -> Iterator[Said]:
    number = 0
    conversation = reading.number()
    # The nearest message at or above a node: nodes without one are passed over.
    standing: dict[str, str] = {}
    for branch in branches(parents, current):
        kept = [key for key in branch if said[key]]
        number += bool(kept)
        for key in branch:
            above = standing.get(parents[key], "")
            standing[key] = above
            if item := said[key]:
                name = thread if number == 1 else f"{thread}, branch {number}"
                standing[key] = f"{conversation}:{key}"
                yield Said(item.speaker, item.time, item.text, name, standing[key], above)


def _chatgpt_message(message: Mapping[str, Any], reading: Reading) -> Said | None:
    content, metadata = mapping(message.get("content")), mapping(message.get("metadata"))
    author = mapping(message.get("author"))
    text = _chatgpt_text(content)
    for file in objects(metadata.get("attachments")):
        name = string(file.get("name"))
        # An image that was sent is a part of the text already.
        if not string(file.get("mime_type") or file.get("mimeType")).startswith("image/") or "[image]" not in text:
            text += "\n" + attached(name)
    if not text.strip():
        return None
    if metadata.get("is_visually_hidden_from_conversation") or content.get("content_type") in _UNSAID:
        reading.left_out["hidden"] += 1
        return None
    speaker = string(author.get("name")) or string(author.get("role")) or "unknown"
    return Said(speaker, moment(message.get("create_time")), text, "")


def _chatgpt_text(content: Mapping[str, Any]) -> str:
    kind = string(content.get("content_type"))
    text = string(content.get("text"))
    if kind == "code":
        language = string(content.get("language"))
        return fenced(text, "" if language == "unknown" else language) if text.strip() else ""
    if kind == "execution_output":
        return fenced(text, OUTPUT) if text.strip() else ""
    if kind == "tether_quote":
        heads = (string(content.get("title")), string(content.get("url")))
        return "\n".join(part for part in (*heads, text) if part)
    if kind == "computer_output":
        return placeholder("screenshot", string(mapping(content.get("state")).get("title")))
    parts = [_chatgpt_part(part) for part in sequence(content.get("parts"))]
    others = [text, *(string(content.get(field)) for field in ("result", "summary", "content"))]
    return _MARK.sub(_unmarked, "\n".join(part for part in (*parts, *others) if part.strip()))


def _chatgpt_part(part: object) -> str:
    if isinstance(part, str):
        return part
    kind = string(mapping(part).get("content_type"))
    if text := string(mapping(part).get("text")):
        return text
    for medium in ("image", "video", "audio"):
        if medium in kind:
            return placeholder(medium)
    return placeholder(kind.replace("_", " ")) if kind else ""


def _unmarked(mark: re.Match[str]) -> str:
    """What is to be seen of a mark: the name of an entity, nothing of a citation."""
    if mark["kind"] != "entity":
        return ""
    try:
        fields = json.loads(mark["what"])
    except (ValueError, RecursionError):
        return mark["what"]
    return next((string(field) for field in sequence(fields)[1:2]), "")


def _claude_text(message: Mapping[str, Any], reading: Reading) -> str:
    blocks = [_claude_block(block, reading) for block in objects(message.get("content"))]
    texts = [block for block in blocks if block.strip()] or [string(message.get("text"))]
    for file in objects(message.get("attachments")):
        name, held = string(file.get("file_name")), string(file.get("extracted_content"))
        if name and held.strip():
            reading.part(name, held)
        # What was pasted has no name: it is what was said.
        texts.append(attached(name) if name else held)
    texts += [attached(string(file.get("file_name"))) for file in objects(message.get("files"))]
    return "\n\n".join(text for text in texts if text.strip())


def _claude_block(block: Mapping[str, Any], reading: Reading) -> str:
    kind = block.get("type")
    if kind in ("thinking", "redacted_thinking"):
        reading.left_out["hidden"] += 1
        return ""
    if kind == "tool_use":
        given = mapping(block.get("input"))
        code = next((given[name] for name in ("content", "file_text", "code") if string(given.get(name)).strip()), "")
        title = string(given.get("title")) or string(given.get("path"))
        called = placeholder(f"tool {string(block.get('name'))}".strip(), title)
        return f"{called}\n{fenced(code, string(given.get('language')))}" if code else called
    if kind == "tool_result":
        content = block.get("content")
        texts = [string(content), *(string(item.get("text")) for item in objects(content))]
        output = "\n".join(text for text in texts if text.strip())
        return fenced(output, OUTPUT) if output else ""
    if kind in ("image", "document"):
        return placeholder(kind)
    return string(block.get("text"))


def _activities(found: list[tuple[str, str, str]], reading: Reading) -> Iterator[Said]:
    from cortex_pipelines.ingest.chats.markup import markdown

    asked: Counter[str] = Counter()
    # The export begins with the newest.
    for title, time, html in reversed(found):
        answer = markdown(html) if html else ""
        prompt = _PROMPT.sub("", title, count=1) if _PROMPT.match(title) else ""
        # In another language the verb is another: what was answered was a prompt.
        if not prompt and answer and not _NO_PROMPT.match(title):
            prompt = title
        if not prompt.strip():
            reading.left_out["no prompt"] += bool(title)
            continue
        day = time[:10] if re.match(r"\d{4}-\d\d-\d\dT", time) else "without a date"
        asked[day] += 1
        key = f"{day} {asked[day]}"
        yield Said("user", time, prompt, f"Gemini, {day}", key)
        if answer.strip():
            yield Said("Gemini", time, answer, f"Gemini, {day}", "", key)


def _activity_moment(words: str) -> str:
    text, _, zone = words.rpartition(" ")
    try:
        point = datetime.strptime(text, "%b %d, %Y, %I:%M:%S %p").replace(tzinfo=UTC)
        return moment((point - timedelta(hours=_ZONES[zone])).isoformat())
    except (KeyError, OverflowError, ValueError):
        return moment(words)
