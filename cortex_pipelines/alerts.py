"""Alerts to people: one message to a webhook, by e-mail, or both, as far as they are set."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from cortex_pipelines.settings import Settings

# A sensor's tick ends after sixty seconds, and has more to do.
TIMEOUT_SECONDS = 10.0
TITLE_CHARACTERS = 150
TEXT_CHARACTERS = 2_000


@dataclass(frozen=True)
class Alert:
    """What people are told: a title of one line, and a text that says more."""

    title: str
    text: str
    resolved: bool = False


def configured(settings: "Settings") -> bool:
    """Whether anybody is told."""
    return settings.alert_webhook is not None or bool(settings.alert_email)


def send(settings: "Settings", alert: Alert) -> list[str]:
    """Tell everybody that is set; what went wrong, a line for each. Nothing is raised."""
    faults = []
    title = _one_line(alert.title)[:TITLE_CHARACTERS]
    text = alert.text[:TEXT_CHARACTERS]
    if settings.alert_webhook is not None:
        try:
            _post(settings.alert_webhook.get_secret_value(), title, text, alert.resolved)
        except Exception as error:
            # The address may hold a secret, which httpx repeats in its words.
            faults.append(f"the webhook of CORTEX_ALERT_WEBHOOK: {type(error).__name__}")
    if settings.alert_email:
        try:
            _mail(settings, title, text)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            faults.append(f"e-mail through CORTEX_SMTP_URL: {type(error).__name__}: {_one_line(str(error))}")
    return faults


def _post(url: str, title: str, text: str, resolved: bool) -> None:
    import httpx

    # `text` is what Slack, Mattermost and their like show; the rest is for whoever reads JSON.
    told = {"text": f"{title}\n{text}", "title": title, "resolved": resolved, "source": "cortex-pipelines"}
    with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False) as client:
        client.post(url, json=told).raise_for_status()


def _mail(settings: "Settings", title: str, text: str) -> None:
    message = EmailMessage()
    message["Subject"] = title
    message["From"] = settings.alert_from
    message["To"] = ", ".join(settings.alert_email)
    message.set_content(text or title)
    with _server(settings.smtp_url.get_secret_value()) as server:
        server.send_message(message)


@contextmanager
def _server(url: str) -> Iterator[smtplib.SMTP]:
    """A mail server at `smtp://`, `smtps://` (TLS from the start) or `smtp+starttls://`, logged in as the URL says."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    if parts.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, parts.port or 465, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
        )
    else:
        server = smtplib.SMTP(host, parts.port or 25, timeout=TIMEOUT_SECONDS)
    with server:
        if parts.scheme == "smtp+starttls":
            server.starttls(context=ssl.create_default_context())
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        yield server


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
