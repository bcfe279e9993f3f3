"""Alerts: they arrive as they were said, and what goes wrong with them is told without a secret."""

import pytest

from cortex_pipelines.alerts import TEXT_CHARACTERS, Alert, configured, send
from cortex_pipelines.settings import SettingsError, load_settings
from tests.servers.faults import nobody
from tests.servers.inboxes import mail_server, webhook

ALERT = Alert("Cortex: run 1234 failed for atlas", "roadmap: the disk is full")


def settings(**variables):
    return load_settings(variables, env_file=None)


def test_nobody_is_told_where_nobody_is_set():
    assert not configured(settings())
    assert send(settings(), ALERT) == []


def test_a_webhook_and_mailboxes_are_told_the_same():
    with webhook() as (url, posted), mail_server() as (smtp, taken):
        given = settings(
            CORTEX_ALERT_WEBHOOK=url,
            CORTEX_ALERT_EMAIL="ops@example.org, team@example.org",
            CORTEX_ALERT_FROM="cortex@example.org",
            CORTEX_SMTP_URL=smtp,
        )
        assert configured(given)
        assert send(given, ALERT) == []
    [told] = posted
    assert told["title"] == ALERT.title
    assert told["text"] == f"{ALERT.title}\n{ALERT.text}"
    [message] = taken
    assert f"Subject: {ALERT.title}" in message
    assert "From: cortex@example.org" in message
    assert "To: ops@example.org, team@example.org" in message
    assert message.rstrip().endswith(ALERT.text)


def test_a_title_cannot_add_headers_and_a_text_is_bounded():
    with mail_server() as (smtp, taken):
        given = settings(CORTEX_ALERT_EMAIL="ops@example.org", CORTEX_SMTP_URL=smtp)
        hostile = Alert("run failed\r\nBcc: everybody@example.org\r\n\r\nhello", "x " * 10_000)
        assert send(given, hostile) == []
    head, _, body = taken[0].partition("\n\n")
    assert not [line for line in head.splitlines() if line.startswith("Bcc")]
    assert len(body) < 2 * TEXT_CHARACTERS


@pytest.mark.parametrize("status", [404, 500, 302])
def test_what_does_not_arrive_is_told_without_the_secret(status):
    with webhook(status) as (url, _):
        [fault] = send(settings(CORTEX_ALERT_WEBHOOK=url), ALERT)
    assert "CORTEX_ALERT_WEBHOOK" in fault
    assert "very-secret" not in fault


def test_one_way_that_is_dead_does_not_stop_the_other():
    dead = nobody().replace("http", "smtp")
    with webhook() as (url, posted):
        given = settings(CORTEX_ALERT_WEBHOOK=url, CORTEX_ALERT_EMAIL="ops@example.org", CORTEX_SMTP_URL=dead)
        [fault] = send(given, ALERT)
    assert "e-mail through CORTEX_SMTP_URL: ConnectionRefusedError" in fault
    assert len(posted) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORTEX_ALERT_WEBHOOK", "chat.local"),
        ("CORTEX_ALERT_EMAIL", "not an address"),
        ("CORTEX_ALERT_FROM", "a@b, c@d"),
        ("CORTEX_SMTP_URL", "http://mail"),
    ],
)
def test_a_bad_value_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        settings(**{name: value})
