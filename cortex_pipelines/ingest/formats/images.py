"""Images: the text in them, by the program tesseract where it is installed."""

import os
import shutil
import subprocess
from functools import cache

from cortex_pipelines.ingest.formats.draft import Draft
from cortex_pipelines.ingest.parsing import Parsed, Unreadable

MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/tiff", "image/bmp", "image/webp")
# A dense page takes some three seconds.
SECONDS = 60.0
TEXT_BYTES = 2**20
MISSING = "install tesseract (Debian: apt-get install tesseract-ocr) and run again"


def parse_image(media_type: str, data: bytes) -> Parsed:
    """A scan or a screenshot."""
    if not has_tesseract():
        raise Unreadable(f"is an image: to read its text, {MISSING}")
    text = recognised(data)
    if text is None:
        raise Unreadable("is an image that OCR cannot read: broken, or too large")
    if not text.strip():
        raise Unreadable("is an image without text")
    draft = Draft()
    draft.block(text)
    return draft.parsed(media_type, details={"read by": "OCR"})


def has_tesseract() -> bool:
    """Whether text of images can be read."""
    return bool(_languages())


def recognised(image: bytes, seconds: float = SECONDS) -> str | None:
    """The text of an image, in whichever of the installed languages; None when it cannot be read in time.

    The program runs within the limits of this process, which is a worker's.
    """
    try:
        done = subprocess.run(
            ["tesseract", "stdin", "stdout", "-l", _languages()],
            input=image,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "OMP_THREAD_LIMIT": "1"},
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    if done.returncode:
        return None
    text = done.stdout[:TEXT_BYTES].decode("utf-8", "replace").replace("\f", "")
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


@cache
def _languages() -> str:
    if shutil.which("tesseract") is None:
        return ""
    done = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=False, timeout=SECONDS)
    # The first line is a sentence; osd tells how a page is turned.
    names = [name.strip() for name in done.stdout.splitlines()[1:] if name.strip() not in ("", "osd", "equ")]
    return "+".join(names)
