"""What files of the inbox hold: archives in parts, secrets masked everywhere, speakers by name, a lane's word."""

import io
import json
import zipfile
from dataclasses import replace
from email.message import EmailMessage

import pytest

from cortex_pipelines.ingest import contents
from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.lanes import Lanes
from cortex_pipelines.retrieval.index import RAG_INDEX
from cortex_pipelines.settings import load_settings
from cortex_pipelines.stairs import climb
from cortex_pipelines.store.tables import TABLES
from tests.ingest.git_building import make_repository
from tests.servers.faults import Answer, serving

# Of the right form, and nobody's.
KEY = "AKIA" + "Z7Q2M5X4K3W6B4N6"
PASSWORD = "hunter" + "7-wombat-Quilt9"


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


def rows(work, table):
    return work.store.snapshot().rows(table)


def reasons(work):
    return {row["path"]: row["reason"] for row in rows(work, "quarantine")}


def test_an_archive_is_staged_in_parts_that_fit_into_memory_and_published_whole(work, folder, monkeypatch):
    monkeypatch.setattr(contents, "PART_BYTES", 1_000)
    members = {
        f"notes/{number}.md": f"# Note {number}\n\n" + f"The ferry {number} leaves.\n" * 20 for number in range(30)
    }
    (folder / "notes.zip").write_bytes(zipped(members))
    with monkeypatch.context() as patched:
        # It changes while it is read: nothing of it is taken.
        patched.setattr(contents, "file_digest", lambda path: "another")
        assert climb(DOCUMENTS, work).metadata["documents"] == 0
    assert climb(DOCUMENTS, work).metadata["documents"] == 30
    assert {row["path"]: row["text"] for row in rows(work, "documents")} == {
        f"notes.zip/{name}": text for name, text in members.items()
    }
    assert work.store.staging("documents").names() == []


def test_a_limit_that_is_hit_is_a_row_and_the_rest_is_read(work, folder):
    (folder / "notes.zip").write_bytes(zipped({"a.md": "The ferry leaves.\n", "b.md": "x" * 3_000, ".hidden.md": "no"}))
    limited = replace(work, settings=work.settings.model_copy(update={"archive_member_bytes": 1_000}))
    climb(DOCUMENTS, limited)
    assert [row["path"] for row in rows(work, "documents")] == ["notes.zip/a.md"]
    assert "is larger than" in reasons(work)["notes.zip/b.md"]
    assert set(reasons(work)) == {"notes.zip/b.md"}


def test_a_large_archive_is_read_and_no_large_file_to_be_audited(work, folder):
    (folder / "notes.zip").write_bytes(zipped({f"{number}.md": f"The ferry {number}.\n" for number in range(200)}))
    small = replace(work, settings=work.settings.model_copy(update={"deep_ingest_bytes": 1_000}))
    assert climb(DOCUMENTS, small).metadata["documents"] == 200


@pytest.mark.parametrize("mask", [True, False])
def test_secrets_are_reported_and_masked_in_everything_that_is_kept(work, folder, mask):
    (folder / "keys.md").write_text(f"# Keys {KEY}\n\nThe key is {KEY}, and the password: {PASSWORD!r}\n")
    chat = "\n".join(f"**Ana** (2026-03-02 10:1{number}): use {KEY} please" for number in range(4))
    (folder / "chat.md").write_text(chat)
    make_repository(folder / "code", {"app.py": f'KEY = "{KEY}"\n', "plain.py": "x = 1\n"})
    masking = replace(work, settings=work.settings.model_copy(update={"mask_secrets": mask}))
    for stair in (DOCUMENTS, REPOSITORIES, RAG_INDEX):
        assert not climb(stair, masking).failed
    found = {(row["source"], row["line"]) for row in rows(work, "secrets") if row["rule"].startswith("aws")}
    assert {("keys.md", 1), ("keys.md", 3), ("code/app.py", 1), ("chat.md", 1)} <= found
    kept = {table: json.dumps(rows(work, table), ensure_ascii=False) for table in TABLES}
    assert {table for table, told in kept.items() if KEY in told} == (
        set() if mask else {"documents", "files", "messages", "chunks"}
    )
    assert KEY not in kept["secrets"]
    # The other way round everything is read again.
    other = replace(work, settings=work.settings.model_copy(update={"mask_secrets": not mask}))
    for stair in (DOCUMENTS, REPOSITORIES):
        climb(stair, other)
    texts = {row["path"]: row["text"] for row in rows(work, "documents")}
    code = {row["source"]: row["text"] for row in rows(work, "files")}
    assert (KEY in texts["keys.md"], KEY in code["code/app.py"]) == (mask, mask)
    assert code["code/plain.py"] == "x = 1\n"


def test_a_slack_export_calls_its_people_by_their_names(work, folder):
    said = [
        {
            "type": "message",
            "user": "U024BE7LH",
            "text": f"The ferry leaves at {hour}, <@U0G9QF9C6>",
            "ts": f"17724{hour}0000.000100",
        }
        for hour in (10, 11, 12)
    ]
    people = [
        {
            "id": "U024BE7LH",
            "team_id": "T1",
            "name": "ana",
            "real_name": "Ana Berg",
            "profile": {"real_name": "Ana Berg"},
        }
    ]
    people += [
        {
            "id": "U0G9QF9C6",
            "team_id": "T1",
            "name": "ben",
            "real_name": "Ben Holm",
            "profile": {"real_name": "Ben Holm"},
        }
    ]
    channels = [
        {
            "id": "C0EAQDV4Z",
            "name": "harbour",
            "created": 1,
            "creator": "U024BE7LH",
            "members": ["U024BE7LH", "U0G9QF9C6"],
        }
    ]
    export = {"users.json": people, "channels.json": channels, "harbour/2026-03-02.json": said}
    (folder / "export.zip").write_bytes(zipped({name: json.dumps(told) for name, told in export.items()}))
    climb(DOCUMENTS, work)
    messages = [row for row in rows(work, "messages") if row["source"].startswith("export.zip/harbour")]
    assert {row["speaker"] for row in messages} == {"Ana Berg"}
    assert all("Ben Holm" in row["text"] for row in messages)


def test_an_archive_that_is_attached_is_read_as_one_that_was_dropped(work, folder):
    inner = zipped({"notes/ferry.md": "# Ferries\n\nThe ferry leaves at seven.\n", "../out.md": "no"})
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "ana@example.org", "The notes"
    mail.set_content("They are attached.\n")
    mail.add_attachment(inner, maintype="application", subtype="zip", filename="notes.zip")
    (folder / "mail.eml").write_bytes(mail.as_bytes())
    climb(DOCUMENTS, work)
    texts = {row["path"]: row["text"] for row in rows(work, "documents")}
    assert set(texts) == {"mail.eml", "mail.eml/notes.zip/notes/ferry.md"}
    assert "leaves at seven" in texts["mail.eml/notes.zip/notes/ferry.md"]
    assert [path for path in reasons(work) if path.startswith("mail.eml/notes.zip/")] == list(reasons(work))
    assert len(reasons(work)) == 1


def test_names_of_attachments_lead_nowhere(work, folder):
    head = "From: a@example.org\nSubject: s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
    attached = 'Content-Type: text/plain\nContent-Disposition: attachment; filename="../../etc/pass\x07wd"\n\n'
    parts = ["Content-Type: text/plain\n\nHello there.\n", f"{attached}root\n", f"{attached}other\n"]
    (folder / "mail.eml").write_text(head + "".join(f"--b\n{part}" for part in parts) + "--b--\n")
    climb(DOCUMENTS, work)
    paths = {row["path"] for row in rows(work, "documents")}
    assert len(paths) == 3
    for path in paths - {"mail.eml"}:
        assert path.startswith("mail.eml/") and path.count("/") == 1 and path.isprintable()


def test_a_lane_betters_descriptions_where_that_is_wanted(work, folder, variables):
    text = "# Ferries\n\n" + "The ferry to Skagen leaves at seven every morning from pier four.\n" * 3
    (folder / "ferry.md").write_text(text)
    told = {"title": "Ferry to Skagen", "summary": "The ferry to Skagen leaves at seven.", "topics": ["ferry"]}
    with serving(Answer(json.dumps(told))) as server:
        wanted = {"ARGOS_LANE_FAST_RAG_URL": server.url, "CORTEX_BETTER_DESCRIPTIONS": "true"}
        settings = load_settings(variables | wanted, env_file=None)
        climb(DOCUMENTS, replace(work, settings=settings, lanes=Lanes(settings)))
        assert len(server.asked) == 1
    (row,) = rows(work, "documents")
    assert (row["title"], row["summary"]) == ("Ferry to Skagen", "The ferry to Skagen leaves at seven.")
