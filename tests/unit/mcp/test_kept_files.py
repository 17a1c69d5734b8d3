"""Tests of keeping files, and of putting them back."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from aumai_transactions.mcp import kept_files
from aumai_transactions.mcp.kept_files import (
    Folders,
    NotKept,
    kept,
    move_back,
    put_back,
    seen_of_move,
)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders([str(tmp_path)])


def test_a_file_comes_back_with_its_bytes_its_mode_and_its_time(
    tmp_path: Path, folders: Folders
) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)))
    file.chmod(0o640)
    os.utime(file, ns=(1, 1_000_000_007))
    record = json.loads(json.dumps(kept([file])))
    file.unlink()
    file.write_text("other")
    put_back(record, folders)
    found = file.stat()
    assert file.read_bytes() == bytes(range(256))
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o640, 1_000_000_007)
    put_back(record, folders)
    assert list(tmp_path.iterdir()) == [file]


def test_what_was_not_there_is_gone_with_the_folders_made_for_it(
    tmp_path: Path, folders: Folders
) -> None:
    file = tmp_path / "a" / "b" / "file"
    record = kept([file])
    put_back(record, folders)
    file.parent.mkdir(parents=True)
    file.write_text("x")
    put_back(record, folders)
    put_back(record, folders)
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_has_put_there_is_not_removed(tmp_path: Path, folders: Folders) -> None:
    record = kept([tmp_path / "made"])
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "theirs").write_text("x")
    with pytest.raises(OSError, match="holds something now"):
        put_back(record, folders)
    assert (tmp_path / "made" / "theirs").read_text() == "x"


def test_a_folder_comes_back_whole(tmp_path: Path, folders: Folders) -> None:
    top = tmp_path / "top"
    (top / "in").mkdir(parents=True)
    (top / "in" / "file").write_text("x")
    (top / "link").symlink_to("in/file")
    top.chmod(0o750)
    record = kept([top])
    (top / "in" / "file").write_text("y")
    (top / "link").unlink()
    (top / "link").mkdir()
    (top / "new").mkdir()
    (top / "new" / "deep").write_text("z")
    top.chmod(0o700)
    put_back(record, folders)
    assert (top / "link").readlink() == Path("in/file")
    assert (top / "link").read_text() == "x"
    assert not (top / "new").exists()
    assert top.stat().st_mode & 0o777 == 0o750


def test_what_a_killed_server_left_beside_a_file_goes_with_it(
    tmp_path: Path, folders: Folders
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    record = kept([file])
    left = tmp_path / f"file.{'0a' * 16}.tmp"
    left.write_text("half")
    other = tmp_path / f"other.{'0a' * 16}.tmp"
    other.write_text("theirs")
    put_back(record, folders)
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("given", ["relative", "/etc/passwd", "/", 7, None, "/a\0b", "{}/../x"])
def test_a_path_outside_is_refused(folders: Folders, tmp_path: Path, given: object) -> None:
    path = given.format(tmp_path) if isinstance(given, str) else given
    with pytest.raises(NotKept):
        folders.path(path)


def test_a_link_does_not_lead_outside(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("x")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "folder").symlink_to(tmp_path)
    folders = Folders([str(inside)])
    for name in ("link", "folder/secret", "folder/new"):
        with pytest.raises(NotKept, match="none of the folders"):
            folders.path(str(inside / name))


def test_a_link_that_was_put_in_later_is_not_followed_outside(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "file").write_text("x")
    folders = Folders([str(inside)])
    record = kept([folders.path(str(inside / "deep" / "file"))])
    (inside / "deep" / "file").unlink()
    (inside / "deep").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (inside / "deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotKept):
        put_back(record, folders)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_too_much_to_keep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000))
    monkeypatch.setattr(kept_files, "PACKED_BYTES_MAX", 2_000)
    with pytest.raises(NotKept, match="too large to be kept"):
        kept([file])
    monkeypatch.setattr(kept_files, "BYTES_MAX", 2_000)
    with pytest.raises(NotKept, match="more than 2,000 bytes"):
        kept([file])
    monkeypatch.setattr(kept_files, "ENTRIES_MAX", 2)
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(NotKept, match="more than 2 files"):
        kept([tmp_path])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotKept, match="neither a file nor a folder"):
        kept([tmp_path / "pipe"])


def test_what_was_moved_is_moved_back_once(tmp_path: Path, folders: Folders) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.mkdir()
    (source / "file").write_text("x")
    record = json.loads(json.dumps(seen_of_move(source, destination)))
    move_back(record, folders)
    source.rename(destination)
    move_back(record, folders)
    move_back(record, folders)
    assert (source / "file").read_text() == "x"
    assert not destination.exists()


def test_a_move_that_cannot_be_undone_is_not_begun_and_not_guessed(
    tmp_path: Path, folders: Folders
) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    nothing = seen_of_move(source, destination)
    move_back(nothing, folders)
    source.touch()
    record = seen_of_move(source, destination)
    destination.touch()
    with pytest.raises(NotKept, match="is there already"):
        seen_of_move(source, destination)
    with pytest.raises(FileExistsError, match="both there"):
        move_back(record, folders)
    source.unlink()
    destination.unlink()
    with pytest.raises(FileNotFoundError, match="neither"):
        move_back(record, folders)


def test_a_change_claims_its_path_alone_and_the_folders_around_together(
    tmp_path: Path, folders: Folders
) -> None:
    uses = folders.uses([tmp_path / "a" / "b" / "c", tmp_path / "a"])
    assert {(one.name, one.mode) for one in uses} == {
        (f"file:{tmp_path}/a/b/c", "exclusive"),
        (f"file:{tmp_path}/a", "exclusive"),
        (f"file:{tmp_path}/a/b", "shared"),
        (f"file:{tmp_path}", "shared"),
    }


def test_a_name_that_leads_elsewhere_for_some_servers_is_refused(
    tmp_path: Path, folders: Folders
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / unicodedata.normalize("NFD", "café")).mkdir()
    composed = tmp_path / unicodedata.normalize("NFC", "café")
    assert folders.path(f"{tmp_path}/a/../a/./b//c/") == tmp_path / "a" / "b" / "c"
    assert folders.path(f"{tmp_path}/link/c") == tmp_path / "a" / "b" / "c"
    with pytest.raises(NotKept, match="goes back"):
        folders.path(f"{tmp_path}/link/../c")
    for inside in (composed, composed / "x" / "y"):
        with pytest.raises(NotKept, match="looks the same"):
            folders.path(str(inside))
    composed.mkdir()
    assert folders.path(str(composed)) == composed


def test_nothing_is_put_back_through_a_link_to_another_folder(
    tmp_path: Path, folders: Folders
) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    record = kept([tmp_path / "mine" / "file"])
    moved = seen_of_move(tmp_path / "mine" / "file", tmp_path / "mine" / "away")
    shutil.rmtree(tmp_path / "mine")
    (tmp_path / "mine").symlink_to("theirs")
    with pytest.raises(NotKept, match="leads elsewhere"):
        put_back(record, folders)
    with pytest.raises(NotKept, match="leads elsewhere"):
        move_back(moved, folders)
    assert (tmp_path / "theirs" / "file").read_text() == "theirs"


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "x" * 215, "x" * 216])
def test_a_file_with_a_very_long_name_is_put_back(
    tmp_path: Path, folders: Folders, name: str
) -> None:
    file = tmp_path / name
    file.write_text("mine")
    record = kept([file])
    file.write_text("other")
    put_back(record, folders)
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_was_there_is_left_alone_by_who_makes_it(
    tmp_path: Path, folders: Folders
) -> None:
    made = tmp_path / "made"
    record = kept([made], [made])
    assert record["files"][0]["kind"] == "absent"
    made.mkdir()
    record = json.loads(json.dumps(kept([made], [made])))
    (made / "theirs").write_text("x")
    put_back(record, folders)
    assert (made / "theirs").read_text() == "x"
