"""Deep-ingest audits: what is found in large inputs, and coverage that adds up."""

import json

from cortex_pipelines.products import PRODUCTS, build
from cortex_pipelines.reading import audits
from tests.ingest.git_building import commit_files, make_repository


def run(work):
    for product in PRODUCTS[:2]:
        build(product, work)
    return build(next(product for product in PRODUCTS if product.name == audits.PRODUCT), work)


def audit(work, source):
    [row] = work.store.snapshot().rows("audits", None, {"source": source})
    return row


def log_lines(count, fault):
    for number in range(1, count + 1):
        if number == fault:
            yield "2026-03-02T04:43:20Z ERROR store: disk quota exceeded, nothing can be written"
        else:
            yield f"2026-03-02T04:43:{number % 60:02d}Z INFO ingest: batch {number} of receiver r{number % 23} stored"


def test_a_large_log_is_read_whole_and_its_one_fault_found(work, folder):
    text = "\n".join(log_lines(20_000, 13_000)) + "\n"
    (folder / "gateway.log").write_text(text)
    outcome = run(work)
    row = audit(work, "gateway.log")
    assert (row["bytes_total"], row["bytes_read"], row["bytes_skipped"]) == (len(text), len(text), 0)
    assert row["lines"] == 20_000
    [finding] = work.store.snapshot().rows("audit_findings")
    assert (finding["line_start"], finding["severity"]) == (13_000, "high")
    assert finding["quote"] == "2026-03-02T04:43:20Z ERROR store: disk quota exceeded, nothing can be written"
    assert all(verdict.passed for verdict in outcome.verdicts.values())


def test_what_cannot_be_read_is_counted_with_its_reason(work, folder, monkeypatch):
    monkeypatch.setattr(audits, "WINDOW_BYTES", 100)
    (folder / "odd.log").write_bytes(b"an ordinary line\n" * 20 + b"caf\xe9\n" + b"x" * 40_000 + b"\n")
    run(work)
    row = audit(work, "odd.log")
    assert row["bytes_total"] == row["bytes_read"] + row["bytes_skipped"]
    assert json.loads(row["skipped"]) == {"not UTF-8": 4, "tail of a long line": 40_000 - 16 * 1024}


def test_a_repository_is_audited_by_its_bytes_and_its_marks(work, folder):
    key = "-----BEGIN RSA PRIVATE KEY-----"
    make_repository(folder / "r", {"a.py": "# FIXME: later\n", "key.pem": f"{key}\nabc\n", "b.bin": "\0\1\2"})
    run(work)
    row = audit(work, "r")
    assert row["bytes_total"] == row["bytes_read"] + row["bytes_skipped"]
    assert json.loads(row["skipped"]) == {"binary": 3}
    found = {(f["rule"], f["severity"], f["source"], f["quote"]) for f in work.store.snapshot().rows("audit_findings")}
    assert found == {("unfinished", "info", "r/a.py", "FIXME: later"), ("secret", "critical", "r/key.pem", key)}


def test_only_what_moved_is_read_again(work, folder):
    repository = make_repository(folder / "r", {"a.py": "a\n"})
    (folder / "big.log").write_text("\n".join(log_lines(20_000, 5)) + "\n")
    assert run(work).metadata["audited"] == 2
    commit_files(repository, {"a.py": "# TODO: b\n"})
    assert run(work).metadata["audited"] == 1
    (folder / "big.log").unlink()
    outcome = run(work)
    assert (outcome.metadata["audited"], outcome.metadata["audits"]) == (0, 1)
    assert [row["audit"] for row in work.store.snapshot().rows("audit_findings")] == ["r"]


def test_a_small_text_is_not_audited(work, folder):
    (folder / "a.log").write_text("ERROR: small\n")
    assert run(work).metadata["audits"] == 0
