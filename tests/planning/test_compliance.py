"""The compliance report: what is unsafe, open, vague or contradictory in specifications."""

import pytest


def findings(work):
    return [(row["rule"], row["severity"], row["line_start"]) for row in work.store.snapshot().rows("compliance")]


def report(build_all, work, *lines):
    outcomes = build_all({"prd.md": "# PRD\n\n" + "\n".join(lines) + "\n"})
    return findings(work), outcomes["compliance_report"]


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("The client must disable certificate checks for TLS.", "unverified-tls"),
        ("Passwords must be stored in plain text.", "plain-secrets"),
        ("Passwords shall be hashed with MD5.", "plain-secrets"),
        ("The service must log every access token.", "logged-secrets"),
        ("Each device should ship with a default password.", "hard-coded-secrets"),
        ("The export must work without authentication.", "no-authentication"),
    ],
)
def test_what_is_unsafe_is_critical_and_blocks(build_all, work, statement, rule):
    found, outcome = report(build_all, work, f"- R-1: {statement}")
    assert found == [(rule, "critical", 3)]
    assert outcome.failed == ("no_blocking_findings",)


@pytest.mark.parametrize(
    "statement",
    [
        "Passwords must never be stored in plain text.",
        "The client must refuse connections without TLS.",
        "API tokens must not appear in logs.",
        "A request without authentication is rejected, which must be counted.",
        "Passwords must be hashed with Argon2.",
    ],
)
def test_what_forbids_it_is_safe(build_all, work, statement):
    found, outcome = report(build_all, work, f"- R-1: {statement}")
    assert found == []
    assert not outcome.failed


def test_a_blocking_finding_is_published_and_still_fails_when_nothing_changed(build_all, work):
    report(build_all, work, "- R-1: Passwords must be stored in plain text.")
    found, outcome = report(build_all, work, "- R-1: Passwords must be stored in plain text.")
    assert found
    assert outcome.failed == ("no_blocking_findings",)


def test_open_points_vague_words_labels_used_twice_and_contradictions_are_found(build_all, work):
    found, outcome = report(
        build_all,
        work,
        "- R-1: The ferry should be fast.",
        "- R-2: The retention of logs is TBD.",
        "- R-3: A ferry must take at most 200 passengers.",
        "- R-4: A ferry must take at most 300 passengers.",
        "- R-1: The ferry must be painted white.",
    )
    assert set(found) == {
        ("vague", "low", 3),
        ("open-point", "medium", 4),
        ("contradiction", "high", 6),
        ("label-used-twice", "high", 7),
    }
    assert not outcome.failed


def test_the_sample_has_nothing_that_blocks(sample_work):
    rules = [row["rule"] for row in sample_work.store.snapshot().rows("compliance")]
    assert sorted(rules) == ["open-point", "vague"]
