"""What a disk may hold after a power loss: every legal image of recorded system calls.

Owns: the model of a disk under calls that were listened to, and the images that it may leave.
Rules:
  1. Durable is what a sync of that very file, or for a name of its folder, has returned for. A
     sync that failed makes nothing durable.
  2. The rest is there in part: each sector (512 or 4,096 bytes) as it was at some moment since the
     last sync, each by itself, and the size as it was at some moment. So writes are dropped, come
     in another order, and are torn; but no sector holds what it never held.
  3. Of the changes to one name (made, linked, renamed, removed) the first few have happened; those
     of different names do not wait for each other; a renaming is one change of two names.
  4. Where there are more images than are asked for, the corners are there (nothing, everything, as
     of each moment, one sector early or late) and a sample, drawn by a seed.

Source of the idea: Pillai et al., All File Systems Are Not Created Equal (OSDI 2014), whose tool
ALICE rebuilds crash states from system calls as well.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from aumai_transactions.testing.storage_calls import Call

SECTORS = (512, 4096)
_PIPE = "pipe:"
_SYNCS = ("fsync", "fdatasync")
_NAMES_MAX = 7
"""How many changes of names may be open before only some of their combinations are made."""


class Image(NamedTuple):
    """Hold one state of a disk.

    Args:
        files: Contents by path, relative to the folder that was recorded.
        lines: What the process had said by then.
        story: How it came about.
    """

    files: dict[str, bytes]
    lines: tuple[str, ...]
    story: str

    def write(self, folder: Path) -> None:
        """Lay it out in an empty folder."""
        for name, content in self.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o600)


@dataclass
class _File:
    """Hold a file's content as it is durable, and as it was after each change since."""

    versions: list[bytes] = field(default_factory=lambda: [b""])

    @property
    def now(self) -> bytes:
        return self.versions[-1]

    def change(self, content: bytes) -> None:
        self.versions.append(content)

    def sync(self) -> None:
        del self.versions[:-1]


class _Renaming(NamedTuple):
    """Say that names now mean these files; None where a name means none."""

    meanings: tuple[tuple[str, _File | None], ...]


@dataclass
class Disk:
    """Follow what calls do to the files of one folder.

    Args:
        folder: Where they stand.
        ignores: Names of files whose content means nothing after a crash.
    """

    folder: str
    ignores: Callable[[str], bool]
    names: dict[str, _File] = field(default_factory=dict)
    changes: list[_Renaming] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    _open: dict[int, _File] = field(default_factory=dict)
    _now: dict[str, _File | None] = field(default_factory=dict)

    def begin_with(self, files: Mapping[str, bytes]) -> None:
        """Put files there, durable."""
        for name, content in files.items():
            self.names[name] = self._now[name] = _File([content])

    def is_about(self, call: Call) -> bool:
        """Tell whether a call matters here: to the folder, or as something that was said."""
        return call.path.startswith((_PIPE, self.folder))

    def follow(self, call: Call) -> bool:
        """Take one call into account; tell whether anything may be there now that was not before.

        Raises:
            ValueError: It is a call whose effect nobody has written down here.
        """
        if call.result is None or call.result < 0 or call.tampered or not self.is_about(call):
            return False
        if call.path.startswith(_PIPE):
            new = call.data.decode().splitlines() if call.name == "write" else []
            self.lines += new
            return bool(new)
        return self._follow(call, self._relative(call.path))

    def _follow(self, call: Call, name: str) -> bool:
        file = self._now.get(name)
        match call.name:
            case "open" | "openat" | "creat":
                return self._opened(call, name)
            case "pwrite64":
                return self._written(call, name)
            case "ftruncate":
                file = self._of(call, name)
                if file is None or call.offset is None:
                    return False
                file.change(file.now[: call.offset].ljust(call.offset, b"\0"))
            case "fsync" | "fdatasync":
                self._synced(call, name)
                return False
            case "link":
                self._means((self._relative(call.to), file))
            case "rename":
                self._means((name, None), (self._relative(call.to), file))
            case "unlink":
                self._means((name, None))
            case "mkdir" | "rmdir":
                return False
            case _:
                if call.changes and not self.ignores(name):
                    raise ValueError(f"nobody has said what {call.name} does to a disk")
                return False
        return True

    def _opened(self, call: Call, name: str) -> bool:
        if call.descriptor is not None:
            # Whatever had this number before has been closed.
            self._open.pop(call.descriptor, None)
        if self.ignores(name) or not name:
            return False
        is_new = self._now.get(name) is None
        if is_new and call.creates:
            self._means((name, _File()))
        file = self._now.get(name)
        if file is not None and call.descriptor is not None:
            self._open[call.descriptor] = file
            if "O_TRUNC" in call.arguments:
                file.change(b"")
        return is_new and call.creates

    def _written(self, call: Call, name: str) -> bool:
        file = self._of(call, name)
        if file is None or call.offset is None:
            return False
        before, end = file.now, call.offset + len(call.data)
        content = before[: call.offset].ljust(call.offset, b"\0") + call.data + before[end:]
        file.change(content)
        return True

    def _synced(self, call: Call, name: str) -> None:
        file = self._of(call, name)
        if file is not None:
            file.sync()
            return
        # A folder: the names in it are durable from here on.
        kept = []
        for change in self.changes:
            if all(_parent(each) == name for each, _ in change.meanings):
                self._settle(change)
            else:
                kept.append(change)
        self.changes = kept

    def _settle(self, change: _Renaming) -> None:
        for name, file in change.meanings:
            if file is None:
                self.names.pop(name, None)
            else:
                self.names[name] = file

    def _means(self, *meanings: tuple[str, _File | None]) -> None:
        told = tuple(each for each in meanings if not self.ignores(each[0]))
        if told:
            self.changes.append(_Renaming(told))
            self._now.update(told)

    def _of(self, call: Call, name: str) -> _File | None:
        if self.ignores(name):
            return None
        found = self._open.get(-1 if call.descriptor is None else call.descriptor)
        # Why not the name alone: a file may have lost its name, or been opened before.
        if found is not None and self._now.get(name) in (found, None):
            return found
        return self._now.get(name)

    def _relative(self, path: str) -> str:
        return path[len(self.folder) :].lstrip("/").removesuffix(" (deleted)")


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


@dataclass
class Recorder:
    """Make images of a disk at every moment of a record, each but once.

    Args:
        seed: What samples are drawn by.
        images_max: How many images a moment may have before a sample is made instead of all.
        corners_max: How many corners are made then, where something is about to be synced or has
            just been said; at other moments what was changed last is all that is new.
        samples: How many more are drawn then, for each size of a sector.
    """

    seed: int = 1
    images_max: int = 64
    corners_max: int = 100
    samples: int = 4
    tally: Counter[str] = field(default_factory=Counter)

    def images(self, disk: Disk, calls: Sequence[Call]) -> Iterator[Image]:
        """Yield what the disk may hold if the power goes before, between or behind these calls."""
        seen: set[bytes] = set()
        draw = random.Random(self.seed)  # noqa: S311 (a sample that can be drawn again)
        following = [call for call in calls if disk.is_about(call)]
        for call, after in itertools.pairwise([None, *following, None]):
            if call is not None and not disk.follow(call):
                continue
            self.tally["moments"] += 1
            is_said = call is not None and call.path.startswith(_PIPE)
            is_critical = is_said or after is None or after.name in _SYNCS
            for image in self._of_moment(disk, draw, is_critical=is_critical):
                self.tally["images"] += 1
                mark = _mark(image)
                if mark not in seen:
                    seen.add(mark)
                    self.tally["different images"] += 1
                    yield image

    def _of_moment(self, disk: Disk, draw: random.Random, *, is_critical: bool) -> Iterator[Image]:
        lines = tuple(disk.lines)
        for names, told in _names_of(disk, draw):
            files = {name: file for name, file in names.items() if len(file.versions) > 1}
            still = {name: file.now for name, file in names.items() if name not in files}
            if not files:
                yield Image(still, lines, f"{told}; all that they name is synced")
                continue
            for size in SECTORS:
                for chosen in self._chosen(files, size, draw, is_critical=is_critical):
                    mixed = {
                        name: _mixed(file.versions, size, *chosen[name])
                        for name, file in files.items()
                    }
                    yield Image(still | mixed, lines, f"{told}; sectors of {size}: {chosen}")

    def _chosen(
        self, files: Mapping[str, _File], size: int, draw: random.Random, *, is_critical: bool
    ) -> Iterable[dict[str, _Choice]]:
        """Choose versions for the sizes and the sectors of files that are not wholly durable."""
        choices = {name: _choices(file.versions, size) for name, file in files.items()}
        count = math.prod(
            math.prod(len(each) for each in sectors.values()) * len(file.versions)
            for file, sectors in zip(files.values(), choices.values(), strict=True)
        )
        if count <= self.images_max:
            self.tally[f"moments with all images, {size}"] += 1
            return _all(files, choices)
        self.tally[f"moments with a sample, {size}"] += 1
        drawn = _drawn(files, choices, draw, self.samples)
        if not is_critical:
            last = {n: _as_of(len(f.versions) - 1, choices[n]) for n, f in files.items()}
            return itertools.chain([last], drawn)
        corners = list(_corners(files, choices))
        if len(corners) > self.corners_max:
            corners = draw.sample(corners, self.corners_max)
        return itertools.chain(corners, drawn)


_Choice = tuple[int, dict[int, int]]
"""The version that gives the size, and the version of each sector that changed."""
_Choices = dict[int, list[int]]


def _choices(versions: Sequence[bytes], size: int) -> _Choices:
    """Return, by sector, the versions in which it is different from the one before."""
    longest = max(map(len, versions))
    found: _Choices = {}
    for sector in range(-(-longest // size)):
        place = slice(sector * size, (sector + 1) * size)
        different = [0]
        different += [
            number
            for number, (before, after) in enumerate(itertools.pairwise(versions), 1)
            if before[place] != after[place]
        ]
        if len(different) > 1:
            found[sector] = different
    return found


def _mixed(versions: Sequence[bytes], size: int, of_size: int, sectors: dict[int, int]) -> bytes:
    length = len(versions[of_size])
    content = bytearray(versions[0].ljust(length, b"\0"))
    for sector, number in sectors.items():
        start = sector * size
        piece = versions[number][start : start + size]
        content[start : start + size] = piece.ljust(size, b"\0")
    return bytes(content[:length])


def _all(
    files: Mapping[str, _File], choices: Mapping[str, _Choices]
) -> Iterator[dict[str, _Choice]]:
    each = []
    for name, file in files.items():
        sectors = choices[name]
        picks = itertools.product(range(len(file.versions)), *sectors.values())
        each.append(
            [
                (name, (size, dict(zip(sectors, numbers, strict=True))))
                for size, *numbers in (list(pick) for pick in picks)
            ]
        )
    for combination in itertools.product(*each):
        yield dict(combination)


def _corners(
    files: Mapping[str, _File], choices: Mapping[str, _Choices]
) -> Iterator[dict[str, _Choice]]:
    """Yield nothing, everything, each moment, and one sector that is early or late."""
    last = {name: len(file.versions) - 1 for name, file in files.items()}
    moments = max(last.values())
    for moment in range(moments + 1):
        yield {name: _as_of(min(moment, last[name]), choices[name]) for name in files}
    whole = {name: _as_of(last[name], choices[name]) for name in files}
    nothing = {name: _as_of(0, choices[name]) for name in files}
    for name in files:
        for sector, numbers in choices[name].items():
            for number in numbers:
                late = whole[name][1] | {sector: number}
                yield whole | {name: (last[name], late)}
            early = nothing[name][1] | {sector: numbers[-1]}
            yield nothing | {name: (last[name], early)}


def _as_of(moment: int, sectors: _Choices) -> _Choice:
    versions = {
        sector: max(number for number in numbers if number <= moment)
        for sector, numbers in sectors.items()
    }
    return moment, versions


def _drawn(
    files: Mapping[str, _File], choices: Mapping[str, _Choices], draw: random.Random, count: int
) -> Iterator[dict[str, _Choice]]:
    for _ in range(count):
        yield {
            name: (
                draw.randrange(len(file.versions)),
                {sector: draw.choice(numbers) for sector, numbers in choices[name].items()},
            )
            for name, file in files.items()
        }


def _names_of(disk: Disk, draw: random.Random) -> Iterator[tuple[dict[str, _File], str]]:
    """Yield what names may mean, and which of the open changes that takes."""
    changes = disk.changes
    numbers = range(len(changes))
    if len(changes) <= _NAMES_MAX:
        subsets = [
            chosen
            for count in range(len(changes) + 1)
            for chosen in itertools.combinations(numbers, count)
        ]
    else:
        subsets = [tuple(range(count)) for count in range(len(changes) + 1)]
        subsets += [tuple(n for n in numbers if draw.random() < 0.5) for _ in range(2**_NAMES_MAX)]
    for chosen in subsets:
        if not _keeps_order(changes, set(chosen)):
            continue
        names = dict(disk.names)
        for number in chosen:
            for name, file in changes[number].meanings:
                if file is None:
                    names.pop(name, None)
                else:
                    names[name] = file
        yield names, f"{len(chosen)} of {len(changes)} changes of names"


def _keeps_order(changes: Sequence[_Renaming], chosen: set[int]) -> bool:
    """Tell whether of the changes of each name the first few were chosen."""
    missing: set[str] = set()
    for number, change in enumerate(changes):
        about = {name for name, _ in change.meanings}
        if number not in chosen:
            missing |= about
        elif about & missing:
            return False
    return True


def _mark(image: Image) -> bytes:
    digest = hashlib.blake2b(repr(image.lines).encode(), digest_size=16)
    for name, content in sorted(image.files.items()):
        digest.update(b"\0%s\0%d\0" % (name.encode("utf-8", "surrogateescape"), len(content)))
        digest.update(content)
    return digest.digest()
