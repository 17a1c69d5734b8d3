"""Random calls of the official filesystem and memory servers, the same ones for the same seed.

Owns: what is called; not how.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("a", "b", "c", "d")
WORDS = ("tea", "späti", "🫖", "line\nbreak\r\n", "", "x" * 5_000)


class RandomCalls:
    """Draw calls about one folder and one memory.

    Args:
        seed: What everything is drawn from.
        folder: The folder; every path is in it.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._random = random.Random(seed)
        self._folder = folder

    def draw(self, count: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield servers, tools and arguments."""
        for _ in range(count):
            yield self._files() if self._random.random() < 0.7 else self._memory()

    def _path(self) -> str:
        parts = self._random.choices(NAMES, k=self._random.randint(1, 3))
        return str(self._folder.joinpath(*parts))

    def _text(self) -> str:
        return " ".join(self._random.choices(WORDS, k=self._random.randint(1, 3)))

    def _files(self) -> tuple[str, str, dict[str, Any]]:
        match self._random.choice(("write", "write", "edit", "folder", "move", "read", "list")):
            case "write":
                return "fs", "write_file", {"path": self._path(), "content": self._text()}
            case "edit":
                edit = {"oldText": "tea", "newText": self._text()}
                return "fs", "edit_file", {"path": self._path(), "edits": [edit]}
            case "folder":
                return "fs", "create_directory", {"path": self._path()}
            case "move":
                return "fs", "move_file", {"source": self._path(), "destination": self._path()}
            case "read":
                return "fs", "read_text_file", {"path": self._path()}
            case _:
                return "fs", "list_directory", {"path": str(self._folder)}

    def _memory(self) -> tuple[str, str, dict[str, Any]]:
        name, other = self._random.choices(NAMES, k=2)
        relation = {"from": name, "to": other, "relationType": "knows"}
        entity = {"name": name, "entityType": "thing", "observations": [self._text()]}
        match self._random.choice(("entity", "entity", "relation", "observe", "forget", "graph")):
            case "entity":
                return "memory", "create_entities", {"entities": [entity]}
            case "relation":
                return "memory", "create_relations", {"relations": [relation]}
            case "observe":
                said = {"entityName": name, "contents": [self._text()]}
                return "memory", "add_observations", {"observations": [said]}
            case "forget":
                return "memory", "delete_entities", {"entityNames": [name]}
            case _:
                return "memory", "read_graph", {}


def fill(folder: Path) -> None:
    """Put something into a folder that is to be as it was in the end."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "c").mkdir(mode=0o750)
    (folder / "a" / "a").write_bytes(b"tea for two\n")
    (folder / "a" / "b" / "c").write_bytes(bytes(range(256)) * 8)
    (folder / "b").write_bytes(b"tea\r\n\xff\xfe\x00")
    (folder / "b").chmod(0o640)
    (folder / "d").symlink_to("b")
