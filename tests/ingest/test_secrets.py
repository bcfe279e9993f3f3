"""What is found among ordinary text and what is not, in linear time, and what is left of it. Tokens are made here."""

import base64
import random
import string
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.ingest import secrets
from cortex_pipelines.ingest.secrets import RULES, Secret, find_secrets, masked

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
ALNUM, HEX, BASE64 = LOWER + UPPER + DIGITS, DIGITS + "abcdef", LOWER + UPPER + DIGITS + "+/"
URL64 = ALNUM + "_-"


def some(alphabet: str, length: int, seed: int) -> str:
    chosen = random.Random(seed)
    return "".join(chosen.choice(alphabet) for _ in range(length))


def pem(kind: str, lines: int, seed: int) -> str:
    body = "".join(some(BASE64, 64, seed + line) + "\n" for line in range(lines))
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# By rule: texts that hold one secret each, made of pieces, from a seed. What is between the bars is the secret.
MADE: dict[str, tuple[Callable[[int], str], ...]] = {
    "aws-access-key": (
        lambda s: f"aws_access_key_id = |AKIA{some(UPPER + '234567', 16, s)}|\n",
        lambda s: f"id: '|ASIA{some(UPPER + '234567', 16, s)}|'",
    ),
    "aws-secret-key": (
        lambda s: f"aws_secret_access_key = |{some(BASE64, 40, s)}|\n",
        lambda s: f'"SecretAccessKey": "|{some(BASE64, 40, s)}|",',
        lambda s: f"export AWS_SECRET_ACCESS_KEY=|{some(BASE64, 40, s)}|",
    ),
    "google-api-key": (lambda s: f"key=|AIza{some(URL64, 34, s)}Q|&address=Graz",),
    "google-oauth": (
        lambda s: f'"client_secret": "|GOCSPX-{some(URL64, 27, s)}d|"',
        lambda s: f"Authorization: |ya29.{some(URL64, 150, s)}|\n",
    ),
    "azure-connection-string": (
        lambda s: f"AccountName=cold;AccountKey=|{some(BASE64, 86, s)}==|;EndpointSuffix=core.windows.net",
        lambda s: f"SharedAccessKeyName=Root;SharedAccessKey=|{some(BASE64, 43, s)}=|",
    ),
    "azure-sas": (lambda s: f"https://a.blob.core.windows.net/b?sv=2022&sig=|{some(ALNUM, 43, s)}%3D|",),
    "github-token": (
        *((lambda s, p=p: f"git clone with |gh{p}_{some(ALNUM, 36, s)}|, please") for p in "pousr"),
        lambda s: f"|github_pat_{some(ALNUM, 22, s)}_{some(ALNUM, 59, s + 1)}|",
    ),
    "gitlab-token": (
        lambda s: f"PRIVATE-TOKEN: |glpat-{some(URL64, 20, s)}|",
        lambda s: f"token |glrt-{some(URL64, 27, s)}.01.{some(LOWER + DIGITS, 9, s)}|\n",
    ),
    "slack-token": (
        lambda s: f"|xoxb-{some(DIGITS, 12, s)}-{some(DIGITS, 13, s)}-{some(ALNUM, 24, s)}|",
        lambda s: f"|xapp-1-A{some(UPPER, 10, s)}-{some(DIGITS, 13, s)}-{some(HEX, 64, s)}|",
    ),
    "slack-webhook": (
        lambda s: f"https://hooks.slack.com/services/|T{some(UPPER, 8, s)}/B{some(UPPER, 8, s)}/{some(ALNUM, 24, s)}|",
    ),
    "discord-webhook": (
        lambda s: f"https://discord.com/api/webhooks/{some('123456789', 18, s)}/|{some(URL64, 68, s)}|",
    ),
    "stripe-key": (
        lambda s: f"stripe.api_key = '|sk_live_{some(ALNUM, 24, s)}|'",
        lambda s: f"|rk_live_{some(ALNUM, 99, s)}|",
        lambda s: f"|whsec_{some(ALNUM, 32, s)}|",
    ),
    "twilio-key": (lambda s: f"Twilio |SK{some(HEX, 32, s)}|.",),
    "sendgrid-key": (lambda s: f"|SG.{some(URL64, 22, s)}.{some(URL64, 43, s)}|",),
    "npm-token": (lambda s: f"//registry/:_authToken=|npm_{some(ALNUM, 36, s)}|\n",),
    "pypi-token": (lambda s: f"[main]\nusername = __token__\npassword = |pypi-AgEIcH{some(URL64, 150, s)}|\n",),
    "rubygems-token": (lambda s: f":key: |rubygems_{some(HEX, 48, s)}|",),
    "docker-token": (lambda s: f"|dckr_pat_{some(URL64, 27, s)}|",),
    "huggingface-token": (lambda s: f'login(token="|hf_{some(LOWER + UPPER, 34, s)}|")',),
    "anthropic-key": (lambda s: f"|sk-ant-api03-{some(URL64, 93, s)}AA|",),
    "openai-key": (
        lambda s: f"|sk-proj-{some(URL64, 74, s)}T3BlbkFJ{some(URL64, 74, s)}|",
        lambda s: f"OPENAI_API_KEY=|sk-{some(ALNUM, 48, s)}|",
        lambda s: f"|sk-or-v1-{some(HEX, 64, s)}|",
    ),
    "groq-key": (lambda s: f"|gsk_{some(ALNUM, 52, s)}|",),
    "digitalocean-token": (lambda s: f"|dop_v1_{some(HEX, 64, s)}|",),
    "databricks-token": (lambda s: f"|dapi{some(HEX, 32, s)}|",),
    "vault-token": (lambda s: f"VAULT_TOKEN=|hvs.{some(URL64, 90, s)}|",),
    "grafana-token": (lambda s: f"|glsa_{some(ALNUM, 32, s)}_{some(HEX, 8, s)}|",),
    "shopify-token": (lambda s: f"|shpat_{some(HEX, 32, s)}|",),
    "postman-key": (lambda s: f"|PMAK-{some(HEX, 24, s)}-{some(HEX, 34, s)}|",),
    "atlassian-token": (lambda s: f"|ATATT3xFf{some(URL64, 180, s)}|",),
    "telegram-token": (lambda s: f"bot{some('123456789', 10, s)}:|AA{some(URL64, 33, s)}|",),
    "age-key": (lambda s: f"|AGE-SECRET-KEY-1{some(UPPER + DIGITS, 58, s)}|",),
    "json-web-token": (
        lambda s: f"Cookie: id=|eyJhbG{some(URL64, 30, s)}.eyJz{some(URL64, 90, s)}.{some(URL64, 43, s)}|",
    ),
    "private-key": (
        *(
            (lambda s, k=kind: pem(k, 12, s).replace("-----\n", "-----|\n", 1).replace("\n-----END", "\n|-----END"))
            for kind in ("RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY")
        ),
        lambda s: (
            '{"private_key": "-----BEGIN PRIVATE KEY-----|\\n'
            + "\\n".join(some(BASE64, 64, s + n) for n in range(9))
            + '\\n|-----END PRIVATE KEY-----\\n"}'
        ),
        lambda s: (
            f"-----BEGIN PGP PRIVATE KEY BLOCK-----|\nVersion: 1\n\n{some(BASE64, 64, s)}\n=x4eq\n|-----END PGP PRIV"
        ),
        # Cut off: all of it that is there.
        lambda s: f"-----BEGIN EC PRIVATE KEY-----|\n{some(BASE64, 64, s)}\n{some(BASE64, 30, s)}|",
    ),
    "putty-key": (lambda s: f"Private-Lines: 2\n|{some(BASE64, 64, s)}\n{some(BASE64, 64, s + 1)}\n|Private-MAC: 0",),
    "database-url": (
        lambda s: f"DATABASE_URL=postgresql://app:|{some(ALNUM, 14, s)}7|@db.internal:5432/prod",
        lambda s: f"mongodb+srv://app:|{some(ALNUM, 14, s)}7|@cluster0.mongodb.net",
        lambda s: f"redis://:|{some(ALNUM, 14, s)}7|@10.0.0.4:6379/0",
    ),
    "url-password": (lambda s: f"origin  https://deploy:|{some(ALNUM, 14, s)}7|@git.internal/team/app.git (fetch)",),
    "netrc-password": (lambda s: f"machine git.internal\n  login ana\n  password |{some(ALNUM, 14, s)}|\n",),
    "npmrc-auth": (lambda s: f"//packages.internal/:_password=|{some(ALNUM, 20, s)}7Zq==|\n",),
    "docker-auth": (lambda s: '{"auths": {"r.internal": {"auth": "|' + b64(f"ana:{some(ALNUM, 14, s)}") + '|"}}}',),
    "authorization-header": (lambda s: f"-H 'Authorization: Basic |{b64('ana:' + some(ALNUM, 14, s))}|'",),
    "bearer-token": (lambda s: f"Authorization: Bearer |{some(ALNUM, 40, s)}|\n",),
    "named-secret": (
        lambda s: f'API_KEY = "|{some(ALNUM, 32, s)}|"',
        lambda s: f"client-secret: |{some(ALNUM, 40, s)}|\n",
        lambda s: f'{{"accessToken": "|{some(HEX, 40, s)}|"}}',
        lambda s: f"SECRET_KEY='|{some(ALNUM + '!@#^&*(', 50, s)}|'",
    ),
    "named-password": (
        lambda s: f'password="|{some(ALNUM, 9, s)}4!kW|"',
        lambda s: f"DB_PASSWORD=|{some(ALNUM, 12, s)}4-kW|\n",
        lambda s: f"spring.datasource.password: |{some(ALNUM, 12, s)}4kW|\n",
    ),
}
SEEDS = range(40)


def test_every_rule_is_tried() -> None:
    assert MADE.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_made_tokens_are_found_where_they_are(rule: str) -> None:
    made = [make(100 * seed) for make in MADE[rule] for seed in SEEDS]
    missed = []
    for barred in made:
        before, secret, after = barred.split("|")
        text = f"first line\n{before}{secret}{after}"
        start = len("first line\n") + len(before)
        found = find_secrets(text)
        if found != (Secret(rule, text.count("\n", 0, start) + 1, start, start + len(secret)),):
            missed.append((text, found))
    # A random string may hold `1234567`, hardly any digit, or the letters of a placeholder.
    assert len(missed) <= len(made) // 20, missed[:3]


@pytest.mark.parametrize(
    "text",
    [
        "aws_access_key_id = AKIA" + "IOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
        'password = "changeme"',
        'password = "<your password>"',
        "password: ${DB_PASSWORD}",
        'password = os.environ["DB_PASSWORD"]',
        "password = getpass.getpass()",
        'password = "password123"',
        "PASSWORD=xxxxxxxxxxxxxxxx",
        'api_key = "your-api-key-goes-here-0001"',
        'api_key = "{{ vault.api_key_2024 }}"',
        'token = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"',
        'token_url = "https://sts.internal/v1/oauth2/token"',
        'client_request_token = "a8ca07e4-61ec-4399-99f4-19853801bcd5"',
        "secret: V1SecretVolumeSource2\n",
        "ghp_" + "x" * 36,
        "ghp_" + "a" * 20,
        "hf_hub_download(repo_id, filename)",
        "https://user:password@host.internal/",
        "https://ana:s3cr3tWord9@example.com/",
        "postgresql://scott:tiger@localhost/test",
        "//registry/:_authToken=${NPM_TOKEN}",
        "time 10:20, see http://host:8080/a@b",
        "-----BEGIN PUBLIC KEY-----\n" + "Mb5" * 40 + "\n-----END PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "sk-estimator-doc-link sk-toggleable__content",
        "The Basic authentication and the Bearer authentication",
        "HEAD is 3f786850e387550fdab836ed7e6dc881de23001b",
    ],
)
def test_placeholders_and_lookalikes_are_not(text: str) -> None:
    assert find_secrets(text) == ()


def test_a_token_in_a_named_value_is_one_secret_of_its_own_rule() -> None:
    token = "ghp_" + some(ALNUM, 36, 1)
    (secret,) = find_secrets(f'api_token = "{token}"')
    assert (secret.rule, secret.end - secret.start) == ("github-token", len(token))


def test_rules_say_what_they_are_for() -> None:
    for rule in RULES.values():
        assert rule.why and rule.anchors and "." not in rule.why


HOSTILE = [
    *(anchor for rule in RULES.values() for anchor in rule.anchors),
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n" + "A" * 70,
    "eyJ" + "a" * 20 + ".",
    "eyJaaaaaaaaaaaa.eyJaaaaaaaaaaaa.",
    "://a:b",
    "://" + "a" * 120 + ":",
    "machine a login b ",
    "password ",
    'password = "',
    "api_key=" + "_-" * 10,
    "secret" + "-_" * 5,
    "Private-Lines: 9\nA\n",
    "12345678:AA",
    "xoxe.xoxb-1",
    "aA1_" * 8,
    "A" * 31 + "a1",
]


@pytest.mark.parametrize("piece", dict.fromkeys(HOSTILE), ids=lambda piece: piece[:24].strip())
@pytest.mark.parametrize("joint", ["", " ", "\n"], ids=repr)
def test_no_line_takes_long(piece: str, joint: str) -> None:
    # The worst take some 50 ms, a quadratic pattern seconds.
    text = (piece + joint) * (50_000 // len(piece + joint))
    began = time.process_time()
    find_secrets(text)
    took = time.process_time() - began
    assert took < 0.5, f"{len(text) / took / 1e6:.2f} MB/s"


def test_ordinary_text_is_passed_over() -> None:
    library = Path(random.__file__).parent
    text = "\n".join(path.read_text("utf-8", "replace") for path in sorted(library.glob("*.py"))[:80])
    fastest = sys.float_info.max
    for _ in range(3):
        began = time.process_time()
        found = find_secrets(text)
        fastest = min(fastest, time.process_time() - began)
    assert found == ()
    # It does 100 MB/s where nothing else runs.
    assert len(text) / fastest > 15e6, f"{len(text) / fastest / 1e6:.0f} MB/s"


_PIECES = st.one_of(
    st.builds(
        lambda make, seed: make(seed).replace("|", ""),
        st.sampled_from([make for makes in MADE.values() for make in makes]),
        st.integers(0, 10**6),
    ),
    st.sampled_from([anchor for rule in RULES.values() for anchor in rule.anchors]),
    st.sampled_from(
        ['"', "'", " ", "\n", "\r\n", "=", ":", "*", "***", "-----", "-----END PRIVATE KEY-----", "\u2028"]
    ),
    st.text(max_size=30),
    st.text(alphabet=ALNUM + "_-.=/+*", max_size=60),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_PIECES, max_size=8).map("".join))
def test_masking_keeps_lines_and_length_and_hides_once_and_for_all(text: str) -> None:
    found = find_secrets(text)
    hidden = masked(text, found)
    assert len(hidden) == len(text)
    assert len(hidden.splitlines()) == len(text.splitlines()) and hidden.count("\n") == text.count("\n")
    assert find_secrets(hidden) == ()
    at = 0
    for secret in found:
        assert at <= secret.start < secret.end
        assert secret.line == text.count("\n", 0, secret.start) + 1
        # What is around it is as it was; of itself at most its ends are left.
        assert hidden[at : secret.start] == text[at : secret.start]
        left = sum(
            now == was != "*" and not was.isspace()
            for now, was in zip(hidden[secret.start : secret.end], text[secret.start : secret.end], strict=True)
        )
        assert left <= 2 * secrets.KEPT_CHARACTERS and left * 2 <= secret.end - secret.start
        at = secret.end
    assert hidden[at:] == text[at:]


def test_the_body_of_a_key_is_masked_and_its_frame_is_not() -> None:
    block = pem("RSA PRIVATE KEY", 5, 7)
    hidden = masked(block, find_secrets(block))
    assert hidden.split("\n") == [
        "-----BEGIN RSA PRIVATE KEY-----",
        *["*" * 64] * 5,
        "-----END RSA PRIVATE KEY-----",
        "",
    ]
