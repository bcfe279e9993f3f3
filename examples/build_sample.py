"""Build the sample inbox: the project `kestrel`, made from the text beside this file, the same bytes every time.

python -m examples.build_sample INBOX
"""

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent / "kestrel"
PROJECT = "kestrel"
BORN = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
LOG_LINES = 16_000
FAULT_LINE = 14_200
STAMP = ".built-from"

# What each commit adds, oldest first: a history that a reader can follow.
COMMITS = (
    ("Receive readings", ("README.md", "kestrel/__init__.py", "kestrel/readings.py", "tests/test_readings.py")),
    ("Keep readings in SQLite", ("kestrel/store.py",)),
    ("Build tracks, export them as GeoJSON", ("kestrel/tracks.py",)),
    ("Ask for a token, count requests", ("kestrel/access.py",)),
    (
        "Dashboard: the last reading of every receiver",
        ("dashboard/package.json", "dashboard/src/receivers.js", "dashboard/src/format.js"),
    ),
    ("Alerts, the mail still missing", ("kestrel/alerts.py",)),
)


def build_sample(inbox: Path) -> Path:
    """The sample project in `inbox`; an up-to-date one is left untouched."""
    project = inbox / PROJECT
    stamp = project / STAMP
    if stamp.is_file() and stamp.read_text() == _origin():
        return project
    inbox.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=inbox, prefix=".building-") as folder:
        built = Path(folder) / PROJECT
        _fill(built)
        (built / STAMP).write_text(_origin())
        shutil.rmtree(project, ignore_errors=True)
        built.rename(project)
    return project


def _fill(project: Path) -> None:
    documents = project / "documents"
    documents.mkdir(parents=True)
    for name in ("prd.md", "spec.md", "faq.html", "planning-chat.md"):
        shutil.copyfile(HERE / "documents" / name, documents / name)
    _pdf(HERE / "documents" / "handbook.txt", documents / "handbook.pdf")
    _pdf(HERE / "documents" / "handbook.txt", documents / "handbook-locked.pdf", password="locked")  # noqa: S106
    _docx(HERE / "documents" / "privacy.txt", documents / "privacy.docx")
    (documents / "empty.txt").write_bytes(b"")
    (project / "logs").mkdir()
    (project / "logs" / "gateway.log").write_text(gateway_log())
    _repository(project / "kestrel-service")


def gateway_log() -> str:
    """A day of a gateway: slow warnings, then at `FAULT_LINE` the one line that says why it stops."""
    lines = []
    for number in range(1, LOG_LINES + 1):
        when = (BORN + timedelta(seconds=number * 5)).strftime("%Y-%m-%dT%H:%M:%SZ")
        receiver = f"r{number * 7 % 23:02d}"
        if number == FAULT_LINE:
            text = "ERROR store: disk quota exceeded on /var/kestrel, readings cannot be written"
        elif number > FAULT_LINE and number % 3 == 0:
            text = f"ERROR ingest: batch of {receiver} lost, store is read-only"
        elif number > FAULT_LINE - 3_000 and number % 97 == 0:
            text = f"WARN store: {100 - (FAULT_LINE - number) // 100}% of the quota used"
        else:
            text = f"INFO ingest: {receiver} uploaded {number * 13 % 500} readings in {number * 11 % 90} ms"
        lines.append(f"{when} {text}")
    return "\n".join(lines) + "\n"


def _pdf(source: Path, target: Path, password: str | None = None) -> None:
    from fpdf import FPDF

    pdf = FPDF()
    pdf.set_creation_date(BORN)
    pdf.set_title("Kestrel field handbook")
    for page in source.read_text().split("--- page ---\n"):
        pdf.add_page()
        pdf.set_font("Helvetica", size=12)
        pdf.multi_cell(0, 8, page)
    if password:
        pdf.set_encryption(owner_password=password, user_password=password)
    pdf.output(str(target))


def _docx(source: Path, target: Path) -> None:
    import docx

    document = docx.Document()
    document.core_properties.created = document.core_properties.modified = BORN.replace(tzinfo=None)
    rows = []
    for line in source.read_text().splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            document.add_heading(line.lstrip("# "), level)
        else:
            document.add_paragraph(line)
    table = document.add_table(0, len(rows[0]))
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.save(str(target))


def _repository(folder: Path) -> None:
    folder.mkdir()
    _git(folder, BORN, "init", "--quiet", "--initial-branch=main")
    for number, (message, names) in enumerate(COMMITS):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / "service" / name, folder / name)
        _git(folder, BORN + timedelta(days=number), "add", "--all")
        _git(folder, BORN + timedelta(days=number), "commit", "--quiet", "--message", message)


def _git(folder: Path, when: datetime, *arguments: str) -> None:
    identity = {
        "GIT_AUTHOR_NAME": "Jonas",
        "GIT_AUTHOR_EMAIL": "jonas@kestrel.example",
        "GIT_COMMITTER_NAME": "Jonas",
        "GIT_COMMITTER_EMAIL": "jonas@kestrel.example",
        "GIT_AUTHOR_DATE": when.isoformat(),
        "GIT_COMMITTER_DATE": when.isoformat(),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    subprocess.run(["git", *arguments], cwd=folder, check=True, env={**os.environ, **identity})


def _origin() -> str:
    """A digest of everything the sample is built from."""
    import hashlib

    digest = hashlib.blake2b(digest_size=16)
    for path in [Path(__file__), *sorted(HERE.rglob("*"))]:
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.build_sample INBOX")
    print(f"the sample project is {build_sample(Path(sys.argv[1]))}")
