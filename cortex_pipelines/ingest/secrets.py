"""Keys, tokens and passwords in what lands: where they stand, and the text without them."""

import math
import re
from base64 import b64decode
from binascii import Error as NoBase64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from cortex_pipelines.evidence import Severity

# Ends of a long secret stay readable, so that its owner can tell which one it is; 16 characters and more do not.
KEPT_CHARACTERS = 4
LONG_CHARACTERS = 24
# A mask is at least this long, and no secret: emphasis in Markdown has two.
MASK = "***"
# Bits per character. Of random hexadecimal strings of 32 characters 1% have less than 3.27, of those of a larger
# alphabet hardly any (measured, 30,000 of each). Names and words have as much: they are told by their letters instead.
ENTROPY_BITS = 3.25
# Shorter hexadecimal numbers are identifiers and checksums more often than secrets, which have 128 bits and more.
HEX_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Secret:
    """One that was found: its rule, its 1-based line, and where in the text it starts and ends."""

    rule: str
    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What a kind of secret looks like, and why it matters.

    `pattern` is tried only where one of its `anchors` stands. Its group is the secret, or else the whole of it is. No
    quantifier of it is open, and its anchor cannot stand within its own repeated part: so any text is read in a time
    that grows with its length alone.
    """

    name: str
    why: str
    severity: Severity
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]


def find_secrets(text: str) -> tuple[Secret, ...]:
    """All secrets of a text, in order, none within another."""
    spans: list[tuple[int, int, int]] = []
    for found in _PIVOTS.finditer(text):
        for anchor, before, places in _BY_PIVOT[found[0]]:
            at = found.start() - before
            if text.startswith(anchor, at):
                spans += [span for place in places if (span := _span(text, at, place))]
    secrets = []
    line, counted = 1, 0
    for start, end, place in _joined(spans):
        line += text.count("\n", counted, start)
        counted = start
        secrets.append(Secret(_RULES[place].name, line, start, end))
    return tuple(secrets)


def masked(text: str, secrets: Sequence[Secret]) -> str:
    """The text with stars for secrets: its lines and its length stay as they are."""
    parts, at = [], 0
    for secret in sorted(secrets, key=lambda secret: secret.start):
        start = max(at, secret.start)
        parts += [text[at:start], _stars(text[start : secret.end])]
        at = max(at, secret.end)
    return "".join([*parts, text[at:]])


def version_with(version: str, mask: bool) -> str:
    """The version of what made a row: text whose secrets are masked is another text."""
    return f"{version}m" if mask else version


def secret_rows(source: str, digest: str, version: str, secrets: Sequence[Secret]) -> list[dict[str, Any]]:
    """The rows of a source's secrets in the table `secrets`; none of them holds the secret itself."""
    return [
        {
            "secret_id": blake2b(
                f"{source}\0{digest}\0{secret.rule}\0{secret.start}".encode(), digest_size=16
            ).hexdigest(),
            "source": source,
            "rule": secret.rule,
            "severity": RULES[secret.rule].severity.value,
            "line": secret.line,
            "digest": digest,
            "version": version,
        }
        for secret in secrets
    ]


def _span(text: str, at: int, place: int) -> tuple[int, int, int] | None:
    match = _RULES[place].pattern.match(text, at)
    if match is None:
        return None
    start, end = match.span(match.lastindex or 0)
    masked_before = text.startswith(MASK, max(0, start - len(MASK)))
    return None if masked_before or not _RULES[place].holds(text[start:end]) else (start, end, place)


def _stars(secret: str) -> str:
    kept = KEPT_CHARACTERS if len(secret) >= LONG_CHARACTERS and not any(map(str.isspace, secret)) else 0
    hidden = secret[kept : len(secret) - kept]
    return secret[:kept] + re.sub(r"\S", "*", hidden) + secret[len(secret) - kept :]


def _joined(spans: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Spans that overlap as one, under the rule that knows most about it: the first of the table."""
    joined: list[tuple[int, int, int]] = []
    for start, end, place in sorted(spans):
        if joined and start < joined[-1][1]:
            before = joined.pop()
            start, end, place = before[0], max(before[1], end), min(before[2], place)
        joined.append((start, end, place))
    return joined


# What stands in documentation, tests and templates where a secret would. Of four letters at least: a random token of 40
# letters and digits holds one of them once in some thousand.
_PLACEHOLDER = re.compile(
    r"(?i)xxxx|example|change_?me|placeholder|your|dummy|redacted|sample|foobar|fake|insert|replace|todo|"
    r"0123456|1234567|abcdef0|abcdefg|deadbeef|lorem|\*\*\*|\.\.\.|\u2026|(.)\1{5}"
)
_TEMPLATE = re.compile(r"[<>{}\[\]]|\$\(|\$[A-Za-z_]|%\(|%[A-Za-z_]{2,40}%|%[sdr]$|^[$@:&%]")
# A name, a path or words rather than a secret: letters in pieces, or words with numbers, as in V1SecretSource.
_PIECES = r"(?:[A-Z]?[a-z]{2,}+|[A-Z]{2,}+|[-_./: ,+@])*+"
_NAME = re.compile(rf"(?:[A-Za-z]++|[-_./: ,+@])*+\d{{0,4}}|{_PIECES}(?:[A-Z]?\d(?!\d){_PIECES}){{0,2}}+")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
# RFC 9562, 8: not to be taken as hard to guess; nearly all that are called tokens are numbers of requests.
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_WORDS = re.compile(
    r"(?i)(?:my|the|a|some|user|db|test|root|admin|default|super|top|client|api|access|auth|private|public|bad|wrong|"
    r"new|old|secret|pass(?:word|wd|phrase)?|passw0rd|pwd|pw|key|token|login|guest|name|value|string|here|foo|bar|baz|"
    r"spam|eggs|none|null|true|false|postgres|mysql|redis|mongo|rabbit|minio|hunter2?|s3cr3t|p4ssw0rd|"
    r"tiger|scott|qwerty|letmein|hello|world|thing|%[0-9A-Fa-f]{2}|[-_ .\d!@#])+"
)


def _token(value: str) -> bool:
    """No placeholder, and not a few characters over and over."""
    return len(set(value)) >= 8 and not _PLACEHOLDER.search(value)


def _random(value: str) -> bool:
    """What nobody would type: digits among letters, and hardly a character twice."""
    return (
        len(value) >= (HEX_CHARACTERS if _HEX.fullmatch(value) else 16)
        and any(map(str.isdecimal, value))
        and any(map(str.isalpha, value))
        and _token(value)
        and not _TEMPLATE.search(value)
        and not _NAME.fullmatch(value)
        and not _UUID.fullmatch(value)
        and _bits(value) >= ENTROPY_BITS
    )


def _password(value: str) -> bool:
    """What somebody chose: of two kinds of characters, no placeholder, no words of the trade."""
    kinds = (str.isalpha, lambda character: not character.isalpha())
    return (
        len(set(value)) >= 5
        and all(any(map(kind, value)) for kind in kinds)
        and not _PLACEHOLDER.search(value)
        and not _TEMPLATE.search(value)
        and not _NAME.fullmatch(value)
        and not _WORDS.fullmatch(value)
    )


def _url_password(value: str) -> bool:
    """Long, or as `_password` has it."""
    words = _PLACEHOLDER.search(value) or _TEMPLATE.search(value) or _WORDS.fullmatch(value)
    return not words and (len(value) >= 8 or not value.isalpha()) and len(set(value)) >= 4


def _pair(value: str) -> bool:
    """A name and a password as HTTP's basic authentication writes them (RFC 7617)."""
    try:
        name, colon, password = b64decode(value, validate=True).decode().partition(":")
    except (NoBase64, UnicodeDecodeError):
        return False
    return bool(name and colon) and name.isprintable() and _url_password(password) and len(password) >= 4


def _block(value: str) -> bool:
    """The body of a key: at least a line of base64."""
    return re.search(r"[A-Za-z0-9+/=]{40}", value) is not None and MASK not in value and len(set(value)) >= 20


def _bits(value: str) -> float:
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)


# What may not stand before or behind a token: more of it.
_ALONE, _ENDS = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"
_DASH_ALONE, _DASH_ENDS = r"(?<![A-Za-z0-9_-])", r"(?![A-Za-z0-9_-])"
_C, _H, _M = Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM
# The name of what is secret, from its anchor on; then what gives it a value.
_KEYED = (
    r"(?:[_-]?(?i:key|s|base|value|prod|live|dev)|[_-][A-Za-z0-9]{1,12}+){0,3}+"
    r"[\"'\]]{0,2}+[ \t]{0,8}+(?::=|=>|:|==?)[ \t]{0,8}+"
)
_PASSWORDS = ("assword", "asswd", "assphrase", "ASSWORD", "ASSWD", "ASSPHRASE", "_pwd", "_PWD")
_NAMED = (
    *("ecret", "ECRET", "oken", "OKEN", "pi_key", "pi-key", "piKey", "pikey", "PI_KEY", "PI-KEY", "PIKEY"),
    *("ccess_key", "ccessKey", "CCESS_KEY", "uth_key", "uthKey", "UTH_KEY", "ryption_key", "RYPTION_KEY"),
)
_DATABASES = (
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "mongodb",
    "mongodb+srv",
    "redis",
    "rediss",
    "amqp",
    "amqps",
)
# Reserved for documentation and tests (RFC 2606).
_NOWHERE = r"(?!(?:[A-Za-z0-9-]{1,63}\.){0,4}?(?:example|invalid|test)\b)"
_USER_PASSWORD = rf"://[^\s/?#@:\"'<>`|\\]{{0,128}}:([^\s/?#@:\"'<>`|\\]{{3,256}})@{_NOWHERE}[A-Za-z0-9\[$]"


def _rule(
    name: str,
    why: str,
    severity: Severity,
    anchors: str | tuple[str, ...],
    pattern: str,
    holds: Callable[[str], bool] = _token,
) -> Rule:
    return Rule(name, why, severity, (anchors,) if isinstance(anchors, str) else anchors, re.compile(pattern), holds)


_RULES = (
    # RFC 7468 (PKCS#1, PKCS#8, SEC1), OpenSSH's PROTOCOL.key and RFC 9580 (PGP); cut off, its base64 that is there.
    _rule(
        "private-key",
        "signs and decrypts as its owner",
        _C,
        "-----BEGIN ",
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}?PRIVATE KEY(?: BLOCK)?-----"
        r"(?:((?:[^-]|-(?!----)){40,32768}+)(?=-----END )|([A-Za-z0-9+/=\s\\]{40,32768}+))",
        _block,
    ),
    # PuTTY's manual, appendix C, "PPK file format".
    _rule(
        "putty-key",
        "signs in to servers as its owner",
        _C,
        "Private-Lines: ",
        r"Private-Lines: \d{1,3}\r?\n((?:[A-Za-z0-9+/=]{1,64}(?:\r?\n|$)){1,200})",
        _block,
    ),
    # age's specification, "The X25519 recipient type": Bech32.
    _rule("age-key", "decrypts files of age", _C, "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{58}\b"),
    # AWS IAM User Guide, "IAM identifiers", unique prefixes; base32.
    _rule(
        "aws-access-key",
        "names an AWS key, whose secret may be near",
        _H,
        ("AKIA", "ASIA"),
        rf"{_ALONE}(?:AKIA|ASIA)[A-Z2-7]{{16}}{_ENDS}",
    ),
    # AWS CLI User Guide, "Configuration and credential file settings": 40 characters of base64.
    _rule(
        "aws-secret-key",
        "acts in AWS as its user",
        _C,
        ("ecret", "ECRET"),
        rf"(?i:ecret_?-?access_?-?key){_KEYED}[\"']?([A-Za-z0-9/+]{{40}})(?![A-Za-z0-9/+=])",
        _random,
    ),
    # Google Cloud, "Manage API keys".
    _rule("google-api-key", "spends on a Google project", _H, "AIza", rf"{_ALONE}AIza[A-Za-z0-9_-]{{35}}{_DASH_ENDS}"),
    # Google Identity, "Using OAuth 2.0": client secrets and access tokens.
    _rule(
        "google-oauth",
        "acts in Google's services as an application or a user",
        _H,
        ("GOCSPX-", "ya29."),
        rf"{_DASH_ALONE}(?:GOCSPX-[A-Za-z0-9_-]{{28}}|ya29\.[A-Za-z0-9_-]{{30,500}}+){_DASH_ENDS}",
    ),
    # Azure Storage, "Configure connection strings" (64 bytes); Service Bus and Event Hubs (32 bytes).
    _rule(
        "azure-connection-string",
        "opens a storage account, a bus or a hub",
        _C,
        ("AccountKey=", "SharedAccessKey="),
        r"(?:Account|SharedAccess)Key=([A-Za-z0-9+/]{42,86}={1,2})",
    ),
    # Azure Storage, "Create a service SAS": sig, a SHA-256 HMAC in base64, encoded for URLs.
    _rule(
        "azure-sas",
        "opens storage until it ends",
        _H,
        ("&sig=", "?sig="),
        r"[?&]sig=([A-Za-z0-9+/%]{43,70}(?:%3[Dd]|=))",
    ),
    # GitHub Docs, "About authentication to GitHub", token formats.
    _rule(
        "github-token",
        "acts on GitHub as its user or application",
        _C,
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        rf"{_ALONE}(?:gh[pousr]_[A-Za-z0-9]{{36,251}}|github_pat_[A-Za-z0-9_]{{82}}){_ENDS}",
    ),
    # GitLab Docs, "Token overview", prefixes; the routable ones have a version and a checksum.
    _rule(
        "gitlab-token",
        "acts on GitLab as its user, runner or project",
        _C,
        ("glpat-", "gloas-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "glffct-"),
        rf"{_DASH_ALONE}gl[a-z]{{2,5}}-[A-Za-z0-9_-]{{20,300}}+(?:\.[a-z0-9]{{2}}\.[a-z0-9]{{7,9}})?",
    ),
    # Slack, "Token types"; app-level tokens.
    _rule(
        "slack-token",
        "reads and writes in a Slack workspace",
        _C,
        ("xoxb-", "xoxp-", "xoxa-", "xoxe-", "xoxe.", "xoxo-", "xoxr-", "xoxs-", "xoxc-", "xoxd-", "xapp-"),
        rf"{_DASH_ALONE}(?:xox[a-z]-|xoxe\.xox[bp]-|xapp-)\d[A-Za-z0-9-]{{16,400}}+",
    ),
    # Slack, "Sending messages using incoming webhooks".
    _rule(
        "slack-webhook",
        "posts to a Slack channel",
        _M,
        "hooks.slack.com/",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Z0-9]{8,14}/[A-Z0-9]{8,14}/[A-Za-z0-9]{18,40})",
    ),
    # Discord Developer Docs, "Webhook resource".
    _rule(
        "discord-webhook",
        "posts to a Discord channel",
        _M,
        "/api/webhooks/",
        r"/api/webhooks/\d{17,20}/([A-Za-z0-9_-]{60,80})",
    ),
    # Stripe Docs, "API keys" and "Verify webhook signatures". Keys of the test mode move no money.
    _rule(
        "stripe-key",
        "moves money in a Stripe account",
        _C,
        ("sk_live_", "rk_live_", "whsec_"),
        rf"{_ALONE}(?:[sr]k_live_[A-Za-z0-9]{{24,247}}|whsec_[A-Za-z0-9+/]{{32,64}}=?){_ENDS}",
    ),
    # Twilio Docs, "API keys": SK and 32 hexadecimal digits.
    _rule("twilio-key", "names a Twilio key, whose secret may be near", _M, "SK", rf"{_ALONE}SK[0-9a-f]{{32}}{_ENDS}"),
    # SendGrid Docs, "API keys": 69 characters in three parts.
    _rule(
        "sendgrid-key",
        "sends mail as its owner",
        _H,
        "SG.",
        rf"{_DASH_ALONE}SG\.[A-Za-z0-9_-]{{22}}\.[A-Za-z0-9_-]{{43}}{_DASH_ENDS}",
    ),
    # npm Docs, "About access tokens", and GitHub's announcement of their format.
    _rule("npm-token", "publishes packages as its user", _C, "npm_", rf"{_ALONE}npm_[A-Za-z0-9]{{36}}{_ENDS}"),
    # PyPI's "API tokens": a macaroon in base64, version 2.
    _rule(
        "pypi-token", "publishes packages as its user", _C, "pypi-Ag", rf"{_DASH_ALONE}pypi-Ag[A-Za-z0-9_-]{{60,1000}}+"
    ),
    # RubyGems Guides, "API key scopes".
    _rule("rubygems-token", "publishes packages", _C, "rubygems_", rf"{_ALONE}rubygems_[0-9a-f]{{48}}{_ENDS}"),
    # Docker Docs, "Personal access tokens".
    _rule("docker-token", "pushes images as its user", _C, "dckr_", rf"{_ALONE}dckr_[po]at_[A-Za-z0-9_-]{{27,32}}"),
    # Hugging Face Docs, "User access tokens".
    _rule("huggingface-token", "acts on the Hub as its user", _H, "hf_", rf"{_ALONE}hf_[A-Za-z0-9]{{34,40}}{_ENDS}"),
    # Anthropic's API reference, "Authentication", and GitHub's list of supported secrets.
    _rule(
        "anthropic-key",
        "spends on an Anthropic account",
        _H,
        "sk-ant-",
        rf"{_DASH_ALONE}sk-ant-[a-z]{{3,5}}\d\d-[A-Za-z0-9_-]{{80,120}}+",
    ),
    # OpenAI's API reference, "Authentication", and what has its form: 48 letters and digits, or OpenRouter's.
    _rule(
        "openai-key",
        "spends on an OpenAI account, or one like it",
        _H,
        "sk-",
        rf"(?:{_DASH_ALONE}sk-(?:[A-Za-z0-9]{{48}}|[0-9a-f]{{32}}|or-v1-[0-9a-f]{{64}}){_DASH_ENDS}"
        rf"|{_DASH_ALONE}sk-(?:proj-|svcacct-|admin-|None-)[A-Za-z0-9_-]{{40,250}}+)",
        _random,
    ),
    # Groq Docs, "API keys".
    _rule("groq-key", "spends on a Groq account", _H, "gsk_", rf"{_ALONE}gsk_[A-Za-z0-9]{{52}}{_ENDS}"),
    # DigitalOcean API reference, "Authentication", and its token formats.
    _rule(
        "digitalocean-token",
        "runs machines of an account",
        _C,
        ("dop_v1_", "doo_v1_", "dor_v1_"),
        rf"{_ALONE}do[opr]_v1_[0-9a-f]{{64}}{_ENDS}",
    ),
    # Databricks Docs, "Personal access token authentication".
    _rule("databricks-token", "acts in a workspace", _C, "dapi", rf"{_ALONE}dapi[0-9a-f]{{32}}(?:-\d)?{_ENDS}"),
    # HashiCorp Vault Docs, "Tokens": service, batch and recovery tokens.
    _rule(
        "vault-token",
        "opens what Vault holds",
        _C,
        ("hvs.", "hvb.", "hvr."),
        rf"{_DASH_ALONE}hv[sbr]\.[A-Za-z0-9_-]{{24,300}}+",
    ),
    # Grafana Docs, "Service accounts": a CRC32 at the end.
    _rule("grafana-token", "acts in Grafana", _H, "glsa_", rf"{_ALONE}glsa_[A-Za-z0-9]{{32}}_[0-9A-Fa-f]{{8}}{_ENDS}"),
    # Shopify Docs, "Access tokens", and its changelog of their prefixes.
    _rule(
        "shopify-token",
        "acts in a shop",
        _C,
        ("shpat_", "shpca_", "shppa_", "shpss_"),
        rf"{_ALONE}shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{{32}}{_ENDS}",
    ),
    # Postman Docs, "Authentication".
    _rule("postman-key", "reads collections", _H, "PMAK-", rf"{_DASH_ALONE}PMAK-[0-9a-f]{{24}}-[0-9a-f]{{34}}{_ENDS}"),
    # Atlassian Support, "Manage API tokens for your Atlassian account".
    _rule("atlassian-token", "acts in Jira and Confluence", _C, "ATATT3", rf"{_ALONE}ATATT3[A-Za-z0-9_=-]{{180,250}}+"),
    # Telegram Bot API, "Authorizing your bot": the bot's number, a colon, 35 characters.
    _rule(
        "telegram-token",
        "speaks as a Telegram bot",
        _H,
        ":AA",
        rf"(?<=\d{{8}}):(AA[A-Za-z0-9_-]{{33}}){_DASH_ENDS}",
    ),
    # RFC 7519, in the compact form of RFC 7515: both the header and the claims begin with {".
    _rule(
        "json-web-token",
        "speaks for whom it names until it ends",
        _M,
        "eyJ",
        r"(?<![A-Za-z0-9_.-])eyJ[A-Za-z0-9_-]{10,2000}+\.eyJ[A-Za-z0-9_-]{10,4000}+\.[A-Za-z0-9_-]{20,1000}+",
        lambda value: len(set(value)) >= 20 and MASK not in value,
    ),
    # RFC 3986, 3.2.1, and the URIs of libpq, MongoDB, Redis and AMQP.
    _rule(
        "database-url",
        "opens a database",
        _C,
        "://",
        f"(?:{'|'.join(f'(?<={re.escape(name)})' for name in _DATABASES)}){_USER_PASSWORD}",
        _url_password,
    ),
    _rule("url-password", "signs in where the URL leads", _H, "://", _USER_PASSWORD, _url_password),
    # GNU Inetutils, "The .netrc file".
    _rule(
        "netrc-password",
        "signs in to the machine it names",
        _H,
        "machine ",
        r"machine[ \t\n]{1,8}+[A-Za-z0-9.:_-]{1,100}[ \t\n]{1,8}+login[ \t\n]{1,8}+\S{1,100}+[ \t\n]{1,8}+"
        r"password[ \t\n]{1,8}+([^\s\"'\\]{4,200})",
        _url_password,
    ),
    # npm Docs, ".npmrc", "Auth related configuration".
    _rule(
        "npmrc-auth",
        "publishes packages as its user",
        _H,
        ("_authToken", "_auth", "_password"),
        r"(?<![A-Za-z0-9])_(?:authToken|auth|password)[ \t]{0,4}+=[ \t]{0,4}+"
        r"\"?([A-Za-z0-9+/=_-]{12,300}+)(?=[\s\"]|$)",
        lambda value: _token(value) and not _NAME.fullmatch(value),
    ),
    # Docker Docs, "docker login", config.json.
    _rule(
        "docker-auth",
        "pushes images as its user",
        _H,
        '"auth"',
        r"\"auth\"\s{0,4}+:\s{0,4}+\"([A-Za-z0-9+/]{8,300}={0,2})\"",
        _pair,
    ),
    # RFC 7617 and RFC 6750, as requests and commands write them.
    _rule(
        "authorization-header",
        "signs in as whoever sent the request",
        _H,
        "asic ",
        r"asic ([A-Za-z0-9+/]{8,300}={0,2})(?![A-Za-z0-9+/=])",
        _pair,
    ),
    _rule(
        "bearer-token",
        "signs in as whoever sent the request",
        _H,
        ("Bearer ", "bearer "),
        r"[Bb]earer ([A-Za-z0-9_.~+/-]{20,2000}+={0,2})",
        _random,
    ),
    # What a name says, where the value looks it. Quoted, or alone to the end of a line, as in .env, .ini and YAML.
    _rule(
        "named-secret",
        "is called a key, a token or a secret",
        _M,
        _NAMED,
        rf"(?i:{'|'.join(sorted({name.lower() for name in _NAMED}))}){_KEYED}"
        r"(?:(?:[brfu]?[\"'`])([^\s\"'`\\:,]{16,256})[\"'`]|([A-Za-z0-9_+/=~-]{16,256}+)[ \t]{0,8}+(?=[\r\n,;]|$))",
        _random,
    ),
    _rule(
        "named-password",
        "is called a password",
        _M,
        _PASSWORDS,
        rf"(?i:{'|'.join(sorted({name.lower() for name in _PASSWORDS}))}){_KEYED}"
        r"(?:(?:[brfu]?[\"'`])([^\s\"'`\\]{8,128})[\"'`]|([A-Za-z0-9_+/=~!#^&*-]{10,128}+)[ \t]{0,8}+(?=[\r\n]|$))",
        _password,
    ),
)
# By name: what a report says of a rule.
RULES = {rule.name: rule for rule in _RULES}

# An anchor is looked for by the first of these that it has, its pivot, and only where that stands by the rest of it:
# characters that are rare in English, code and Markdown and yet cover all anchors. Ordinary text is passed over eight
# times faster than by an alternation of the anchors themselves.
_RARE = "&J?KB/CAk-wb._phc"


def _anchors() -> tuple[re.Pattern[str], dict[str, list[tuple[str, int, list[int]]]]]:
    """What finds a pivot within its anchor; and by pivot the anchors, where it stands in them, their rules' places."""
    places: dict[str, list[int]] = {}
    for place, rule in enumerate(_RULES):
        for anchor in rule.anchors:
            places.setdefault(anchor, []).append(place)
    by_pivot: dict[str, list[tuple[str, int, list[int]]]] = {}
    for anchor, found in places.items():
        at = anchor.index(next(character for character in _RARE if character in anchor))
        by_pivot.setdefault(anchor[at], []).append((anchor, at, found))
    branches = []
    for pivot, anchors in by_pivot.items():
        before = {anchor[at - 1] if at else "" for anchor, at, _ in anchors}
        # Most of the time the one character before it tells that it is none.
        guard = "" if "" in before else f"(?<=[{re.escape(''.join(sorted(before)))}]{re.escape(pivot)})"
        rest = (
            (f"(?<={re.escape(anchor[: at + 1])})" if at else "") + f"(?={re.escape(anchor[at + 1 :])})"
            for anchor, at, _ in anchors
        )
        branches.append(f"{re.escape(pivot)}{guard}(?:{'|'.join(rest)})")
    return re.compile("|".join(branches)), by_pivot


_PIVOTS, _BY_PIVOT = _anchors()
