"""What the last run told of each product, and of what state of things: where nothing moved, it still stands."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any


class Standing:
    """A small file of a project's local state; where it is missing or broken, nothing stands and all is looked at."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "standing.json"

    def get(self, name: str, key: str) -> Any:
        """What was told under the same key; None where it was another, or nothing was."""
        found = self._load().get(name)
        return found["told"] if isinstance(found, dict) and found.get("key") == key else None

    def told(self) -> dict[str, Any]:
        """What was told of each name last, whatever has moved since."""
        return {
            name: found["told"] for name, found in self._load().items() if isinstance(found, dict) and "told" in found
        }

    def put(self, name: str, key: str, told: Any) -> None:
        """Remember something; what cannot be written is not remembered."""
        content = self._load() | {name: {"key": key, "told": told}}
        unfinished = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            unfinished.write_text(json.dumps(content), encoding="utf-8")
            unfinished.replace(self._path)
        except (OSError, ValueError, TypeError):
            unfinished.unlink(missing_ok=True)

    def _load(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


@cache
def code_stamp() -> str:
    """Another one for any other code of this package: what it told does not stand for the next."""
    root = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        info = path.stat()
        digest.update(f"{path.relative_to(root)}\0{info.st_size}\0{info.st_mtime_ns}\0".encode())
    return digest.hexdigest()
