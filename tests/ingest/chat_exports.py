"""Exports as vendors make them, small and our own."""

import json
from typing import Any


def chatgpt_node(key: str, parent: str | None, children: list[str], message: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": key, "message": message, "parent": parent, "children": children}


def chatgpt_message(role: str, content: Any, time: float | None, **fields: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": [content]} if isinstance(content, str) else content
    return {
        "id": f"m-{role}-{time}",
        "author": {"role": role, "name": fields.pop("name", None), "metadata": {}},
        "create_time": time,
        "update_time": None,
        "content": content,
        "status": "finished_successfully",
        "end_turn": None,
        "weight": 1.0,
        "metadata": fields.pop("metadata", {}),
        "recipient": fields.pop("recipient", "all"),
        "channel": None,
    }


def chatgpt() -> list[dict[str, Any]]:
    """Two conversations of one title; the first has an answer that was made again and code that ran."""
    hidden = {"is_visually_hidden_from_conversation": True}
    code = {"content_type": "code", "language": "python", "response_format_name": None, "text": "print(6 * 7)"}
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1", "width": 8, "height": 8}
    mapping = {
        "root": chatgpt_node("root", None, ["system"], None),
        "system": chatgpt_node("system", "root", ["ask"], chatgpt_message("system", "Be kind.", None, metadata=hidden)),
        "ask": chatgpt_node("ask", "system", ["first", "call"], chatgpt_message("user", "How many?", 1730800000.25)),
        "first": chatgpt_node("first", "ask", [], chatgpt_message("assistant", "Forty.", 1730800001.0)),
        "call": chatgpt_node(
            "call", "ask", ["ran"], chatgpt_message("assistant", code, 1730800002.0, recipient="python")
        ),
        "ran": chatgpt_node(
            "ran",
            "call",
            ["thought"],
            chatgpt_message("tool", {"content_type": "execution_output", "text": "42"}, None, name="python"),
        ),
        "thought": chatgpt_node(
            "thought",
            "ran",
            ["last"],
            chatgpt_message(
                "assistant", {"content_type": "reasoning_recap", "content": "Thought for 4s"}, 1730800003.0
            ),
        ),
        "last": chatgpt_node(
            "last",
            "thought",
            [],
            chatgpt_message(
                "assistant",
                {"content_type": "multimodal_text", "parts": [picture, "It is 42\ue200cite\ue202turn0search1\ue201."]},
                1730800004.0,
            ),
        ),
    }
    empty = {"root": chatgpt_node("root", None, ["ask"], None)}
    empty["ask"] = chatgpt_node("ask", "root", [], chatgpt_message("user", "Anything else?", 1730900000.0))
    return [
        {
            "title": "Counting",
            "create_time": 1730800000.0,
            "update_time": 1730800004.0,
            "mapping": mapping,
            "moderation_results": [],
            "current_node": "last",
            "conversation_id": "c-1",
            "id": "c-1",
        },
        {"title": "Counting", "create_time": 1730900000.0, "mapping": empty, "current_node": "ask", "id": "c-2"},
    ]


def claude() -> list[dict[str, Any]]:
    return [
        {
            "uuid": "c-1",
            "name": "Naming",
            "created_at": "2026-03-02T10:00:00.000000Z",
            "account": {"uuid": "a-1"},
            "chat_messages": [
                {
                    "uuid": "m-1",
                    "text": "",
                    "content": [{"type": "text", "text": "Name this file."}],
                    "sender": "human",
                    "created_at": "2026-03-02T10:00:01.123456Z",
                    "attachments": [
                        {
                            "file_name": "notes.txt",
                            "file_type": "txt",
                            "file_size": 9,
                            "extracted_content": "Day one.\n",
                        },
                        {"file_name": "", "file_type": "txt", "file_size": 7, "extracted_content": "Pasted."},
                    ],
                    "files": [{"file_name": "plan.png"}],
                },
                {
                    "uuid": "m-2",
                    "text": "Here.",
                    "content": [
                        {"type": "thinking", "thinking": "A name..."},
                        {"type": "text", "text": "Here."},
                        {
                            "type": "tool_use",
                            "name": "artifacts",
                            "input": {"title": "name.py", "language": "python", "content": "NAME = 1"},
                        },
                        {"type": "tool_result", "name": "artifacts", "content": [{"type": "text", "text": "OK"}]},
                    ],
                    "sender": "assistant",
                    "created_at": "2026-03-02T11:00:02+01:00",
                    "attachments": [],
                    "files": [],
                },
            ],
        }
    ]


def gemini() -> list[dict[str, Any]]:
    """The newest first, as Takeout has it."""
    return [
        {
            "header": "Gemini Apps",
            "title": "Used Gemini Apps",
            "time": "2026-03-03T09:00:00.000Z",
            "products": ["Gemini Apps"],
        },
        {
            "header": "Gemini Apps",
            "title": "Prompted And in code?",
            "time": "2026-03-02T10:05:00.500Z",
            "products": ["Gemini Apps"],
            "attachedFiles": ["sketch-1a2b.png"],
            "safeHtmlItem": [{"html": '<p>So:</p><pre><code class="language-python">x = 1\ny = 2\n</code></pre>'}],
        },
        {
            "header": "Gemini Apps",
            "title": "Prompted What is a lane?",
            "time": "2026-03-02T10:00:00.000Z",
            "products": ["Gemini Apps"],
            "safeHtmlItem": [
                {"html": "<p>A <b>way</b> to a <a href='https://example.org/m'>model</a>.</p><ul><li>one</li></ul>"}
            ],
        },
    ]


GEMINI_PAGE = """<html><body><div class="mdl-grid">
<div class="outer-cell mdl-cell mdl-cell--12-col mdl-shadow--2dp"><div class="mdl-grid">
<div class="header-cell mdl-cell mdl-cell--12-col"><p class="mdl-typography--title">Gemini Apps<br></p></div>
<div class="content-cell mdl-cell mdl-cell--6-col mdl-typography--body-1">Prompted&nbsp;And then?<br>Attached 1 file.
<br>Mar 2, 2026, 10:05:00\u202fAM EST<br><p>Then <code>y</code>.</p></div>
<div class="content-cell mdl-cell mdl-cell--12-col mdl-typography--caption"><b>Products:</b><br>Gemini Apps<br></div>
</div></div>
<div class="outer-cell mdl-cell"><div class="mdl-grid"><div class="header-cell mdl-cell"><p>Gemini Apps<br></p></div>
<div class="content-cell mdl-cell mdl-typography--body-1">Prompted <a href="https://gemini.google.com/app/1">What
 first?</a><br>10 de mar. de 2026, 03:46:09 BRT<p>First x.</p></div></div></div></div></body></html>"""


def slack() -> list[dict[str, Any]]:
    return [
        {
            "type": "message",
            "subtype": "channel_join",
            "user": "U03",
            "ts": "1772445500.000100",
            "text": "<@U03> has joined the channel",
        },
        {
            "client_msg_id": "1",
            "type": "message",
            "user": "U01",
            "ts": "1772445600.000200",
            "text": "What if <@U02> reads <https://example.org/?b=1&amp;c=2|the plan> in <#C01|general> &amp; asks?",
            "user_profile": {"real_name": "Ana Bauer", "display_name": "ana"},
            "thread_ts": "1772445600.000200",
            "reply_count": 1,
        },
        {"type": "message", "user": "U03", "ts": "1772445660.000300", "text": "<!here> lunch?"},
        {
            "type": "message",
            "user": "U02",
            "ts": "1772445720.000400",
            "text": "Done: ```x &lt; 1``` see <https://example.org>",
            "thread_ts": "1772445600.000200",
            "parent_user_id": "U01",
            "files": [{"id": "F1", "name": "plan.pdf", "mimetype": "application/pdf"}, {"mimetype": "image/png"}],
        },
        {
            "type": "message",
            "subtype": "bot_message",
            "bot_id": "B01",
            "username": "deploy",
            "ts": "1772445780.000500",
            "text": "",
            "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "Deployed."}}],
            "attachments": [{"fallback": "Build 7 passed", "title": "Build 7"}],
        },
    ]


SLACK_USERS = [
    {
        "id": "U01",
        "team_id": "T01",
        "name": "abauer",
        "deleted": False,
        "profile": {"real_name": "Ana B", "display_name": ""},
    },
    {"id": "U02", "team_id": "T01", "name": "jonas", "deleted": True, "profile": {"real_name": "", "display_name": ""}},
]


def discord() -> dict[str, Any]:
    def author(name: str, nickname: str) -> dict[str, Any]:
        return {"id": "1", "name": name, "discriminator": "0000", "nickname": nickname, "isBot": False, "roles": []}

    return {
        "guild": {"id": "1", "name": "Kestrel", "iconUrl": ""},
        "channel": {
            "id": "2",
            "type": "GuildTextChat",
            "categoryId": "3",
            "category": "Text",
            "name": "dev",
            "topic": None,
        },
        "dateRange": {"after": None, "before": None},
        "exportedAt": "2026-03-04T00:00:00+00:00",
        "messages": [
            {
                "id": "10",
                "type": "Default",
                "timestamp": "2026-03-02T10:00:00.1234567+01:00",
                "timestampEdited": None,
                "isPinned": False,
                "content": "```py\nx = 1\n```",
                "author": author("ana", "Ana (QA)"),
                "attachments": [
                    {"id": "1", "url": "https://example.org/a.png", "fileName": "a.png", "fileSizeBytes": 1}
                ],
                "embeds": [{"title": "Docs", "url": "https://example.org/d", "description": "How to"}],
                "stickers": [{"id": "1", "name": "wave", "format": "Png"}],
                "reactions": [],
                "mentions": [],
            },
            {
                "id": "11",
                "type": "GuildMemberJoin",
                "timestamp": "2026-03-02T10:01:00+00:00",
                "content": "Joined the server.",
                "author": author("jo", "Jo"),
            },
            {
                "id": "12",
                "type": "Reply",
                "timestamp": "2026-03-02T10:02:00+00:00",
                "content": "Nice.",
                "author": author("jo", ""),
                "attachments": [],
                "embeds": [],
                "reference": {"messageId": "10", "channelId": "2", "guildId": "1"},
            },
        ],
        "messageCount": 3,
    }


def telegram() -> dict[str, Any]:
    return {
        "name": "Kestrel team",
        "type": "private_supergroup",
        "id": 1,
        "messages": [
            {
                "id": 1,
                "type": "service",
                "date": "2026-03-02T09:00:00",
                "actor": "Ana",
                "action": "create_group",
                "text": "",
            },
            {
                "id": 2,
                "type": "message",
                "date": "2026-03-02T10:00:00",
                "date_unixtime": "1772445600",
                "from": "Ana",
                "from_id": "user1",
                "text": [
                    "Look:",
                    {"type": "pre", "text": "x = 1", "language": "python"},
                    {"type": "code", "text": "x"},
                ],
            },
            {
                "id": 3,
                "type": "message",
                "date": "2026-03-02T10:01:00",
                "date_unixtime": "1772445660",
                "from": None,
                "from_id": "user2",
                "reply_to_message_id": 2,
                "photo": "(File not included.)",
                "text": "",
            },
        ],
    }


EXPORTS = {
    "ChatGPT": chatgpt,
    "Claude": claude,
    "Gemini": gemini,
    "Slack": slack,
    "Discord": discord,
    "Telegram": telegram,
}


def as_bytes(export: Any) -> bytes:
    return json.dumps(export).encode()
