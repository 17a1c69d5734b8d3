"""Which images a power loss may leave, and that all of them are made."""

import itertools

import pytest

from aumai_transactions.testing.crash_images import Disk, Recorder
from aumai_transactions.testing.storage_calls import Call

FOLDER = "/somewhere"
OLD = bytes(1024)


def call(
    name, path="store.db", *, to="", descriptor=3, data=b"", offset=None, arguments="", **more
):
    place = path if path.startswith("pipe:") else f"{FOLDER}/{path}".rstrip("/")
    target = f"{FOLDER}/{to}" if to else ""
    result = more.get("result", 0)
    return Call(name, 1, place, target, descriptor, data, offset, arguments, result, False)


def write(data, offset, path="store.db", **more):
    return call("pwrite64", path, data=data, offset=offset, **more)


def images(calls, files=None, **options):
    disk = Disk(FOLDER, lambda name: False)
    disk.begin_with({"store.db": OLD} if files is None else files)
    return list(Recorder(**options).images(disk, calls))


def contents(calls, name="store.db", **options):
    return {image.files.get(name) for image in images(calls, **options)}


def test_sectors_that_were_not_synced_are_there_each_by_itself():
    new = b"n" * 1024
    one, other = new[:512], bytes(512)
    assert contents([write(new, 0)]) >= {
        a + b for a, b in itertools.product((one, other), repeat=2)
    }


def test_a_sector_never_holds_what_it_never_held():
    found = contents([write(b"1" * 8, 0), write(b"2" * 8, 0)])
    assert {content[:8] for content in found} == {bytes(8), b"1" * 8, b"2" * 8}


def test_what_was_synced_is_there_in_every_image_behind_it():
    new = b"n" * 1024
    behind = images([write(new, 0), call("fdatasync"), call("write", "pipe:[1]", data=b"did it\n")])
    assert {image.files["store.db"] for image in behind if image.lines} == {new}


@pytest.mark.parametrize("failed", [{"result": -1}, {"result": None}])
def test_a_sync_that_failed_makes_nothing_durable(failed):
    said = call("write", "pipe:[1]", data=b"did it\n")
    behind = images([write(b"n" * 512, 0), call("fdatasync", **failed), said])
    assert OLD in {image.files["store.db"] for image in behind if image.lines}


def test_a_file_that_grew_may_have_its_length_and_not_its_content():
    found = contents([write(b"n" * 512, 1024)])
    assert found == {OLD, OLD + b"n" * 512, OLD + bytes(512)}


def test_a_file_that_was_cut_is_as_long_as_it_was_at_some_moment():
    assert {len(content) for content in contents([call("ftruncate", offset=100)])} == {100, 1024}


def test_a_new_name_is_durable_with_its_folder_and_not_with_its_file():
    made = call("openat", "new", descriptor=5, arguments="O_RDWR|O_CREAT", result=5)
    said = call("write", "pipe:[1]", data=b"did it\n")
    filled = [made, write(b"x", 0, "new", descriptor=5), call("fsync", "new", descriptor=5)]
    before = [image for image in images([*filled, said]) if image.lines]
    assert {image.files.get("new") for image in before} == {None, b"x"}
    folder = call("openat", "", descriptor=6, arguments="O_RDONLY", result=6)
    after = images([*filled, folder, call("fsync", "", descriptor=6), said])
    assert {image.files.get("new") for image in after if image.lines} == {b"x"}


def test_a_renaming_is_done_or_not_done():
    found = images([call("rename", "new", to="store.db")], {"store.db": b"old", "new": b"new"})
    assert [image.files for image in found] == [
        {"store.db": b"old", "new": b"new"},
        {"store.db": b"new"},
    ]


def test_of_the_changes_to_one_name_the_first_ones_have_happened():
    made = call("openat", "a", descriptor=5, arguments="O_RDWR|O_CREAT", result=5)
    found = images([made, call("link", "a", to="b"), call("unlink", "a")], {})
    assert {frozenset(image.files) for image in found} == {
        frozenset(),
        frozenset("a"),
        frozenset("ab"),
        frozenset("b"),
    }


def test_where_there_are_too_many_the_corners_and_a_sample_are_there():
    calls = [write(bytes([number]) * 512, number * 512) for number in range(1, 9)]
    few = images(calls, images_max=4, corners_max=100, samples=3)
    whole = [image.files["store.db"] for image in few]
    assert OLD in whole
    assert bytes(512) + b"".join(bytes([n]) * 512 for n in range(1, 9)) in whole
    late = [
        content for content in whole if content[512:1024] == bytes(512) and content[-1:] == b"\x08"
    ]
    assert late
    assert len(set(whole)) < len(images(calls, images_max=10**6))


def test_a_call_whose_effect_is_not_known_is_refused():
    with pytest.raises(ValueError, match="fallocate"):
        images([call("fallocate", arguments="3, 0, 0, 100")])
