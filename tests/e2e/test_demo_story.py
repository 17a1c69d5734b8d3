"""The story of the demo: that it tells the truth, also about a product that does not keep it."""

import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aumai_transactions.demo.evidence import SERVICES
from aumai_transactions.demo.show import run_demo
from aumai_transactions.demo.trip import DemoFailed, child_environment, plan_text

ROOT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name("toy_product.py")
SECONDS_MAX = 60
PORTS = {"flights": 8101, "hotels": 8102, "payments": 8103}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the demo makes its temporary folder, so that a test can see what it leaves."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What is told about a product that keeps its promises, and the folder it was told in."""
    place = tmp_path_factory.mktemp("story")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(place))
        code, lines = told("nothing")
    return code, lines, place


def toy(breaks="nothing") -> list[str]:
    return [sys.executable, str(TOY), breaks]


def told(breaks, **options) -> tuple[int, list[str]]:
    lines: list[str] = []
    code = run_demo(lines.append, program=toy(breaks), **options)
    return code, lines


def final_table(lines) -> dict[str, list[str]]:
    start = next(n for n, line in enumerate(lines) if line.startswith("What is left"))
    rows = [line.split() for line in lines[start + 3 : start + 7]]
    return {name: cells for name, *cells in rows}


def test_four_trips_are_told_and_none_of_them_is_partial(story):
    code, lines, folder = story
    assert code == 0
    whole, nothing = ["F123", "H456", "850.00"], ["-", "-", "-"]
    assert final_table(lines) == {
        "Alice": ["committed", *whole],
        "Bob": ["rolled_back", *nothing],
        "Carol": ["committed", *whole],
        "Dave": ["rolled_back", *nothing],
    }
    assert "Four trips, two of them killed half-way, and no half trip." in lines
    assert list(folder.iterdir()) == []


def test_the_half_trips_are_shown_while_they_stand(story):
    _, lines, _ = story
    start = next(n for n, line in enumerate(lines) if "Half a trip each" in line)
    assert lines[start + 2].split() == ["Carol", "active", "F123", "H456", "-"]
    assert lines[start + 3].split() == ["Dave", "active", "F123", "H456", "-"]
    assert len([line for line in lines if re.search(r"SIGKILL to process \d+", line)]) == 2
    assert sum("dead, exit code -9" in line for line in lines) == 2


def test_the_services_books_show_that_bobs_trip_was_undone_in_reverse(story):
    _, lines, _ = story
    start = next(n for n, line in enumerate(lines) if "Bob in the services' books" in line)
    assert [line.split()[2:4] for line in lines[start + 1 : start + 6]] == [
        ["flights", "done"],
        ["hotels", "done"],
        ["payments", "refused"],
        ["hotels", "undone"],
        ["flights", "undone"],
    ]


def test_the_story_fits_into_a_terminal_and_into_every_encoding(story):
    _, lines, _ = story
    assert [line for line in lines if len(line) > 80 or not line.isascii()] == []


def test_colours_do_not_move_the_columns(folder):
    def style(text, *, fg=None, bold=None, dim=None):
        return f"\x1b[1m{text}\x1b[0m"

    _, lines = told("nothing", style=style)
    plain = [re.sub(r"\x1b\[\dm", "", line) for line in lines]
    assert plain != lines
    assert len([line for line in plain if line.startswith("  Alice      committed     F123")]) == 2


@pytest.mark.parametrize(
    "breaks,said",
    [
        # Nobody finishes what the dead left.
        ("recovery", r"\S+ is active, which is not final"),
        # The effect of the step that was running when the process died is forgotten.
        ("recovery of doubt", r"\S+ is rolled_back, but hotels holds 1 for it"),
        # The first step of a trip is not undone.
        ("undo", r"\S+ is rolled_back, but flights holds 1 for it"),
        # A call is repeated under another key: charged twice.
        ("keys", r"\S+ is committed, but payments holds 2 for it"),
    ],
)
def test_a_product_that_leaves_a_partial_trip_is_found_out(folder, breaks, said):
    code, lines = told(breaks)
    assert code == 1
    assert any(re.fullmatch(f"  {said}", line) for line in lines), "\n".join(lines)
    assert not any("no half trip" in line for line in lines)
    assert list(folder.iterdir()) == []


def test_a_product_that_does_not_run_ends_the_story_with_its_own_words(folder):
    with pytest.raises(DemoFailed, match=r"`aumai-transactions run alice.toml .* out of order"):
        told("run")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_story_stops_what_it_started(folder, number):
    program = (
        "import sys\n"
        "from aumai_transactions.demo.show import run_demo\n"
        "run_demo(lambda line: print(line, flush=True), program=sys.argv[1:])\n"
    )
    story = subprocess.Popen(
        [sys.executable, "-c", program, *toy()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment() | {"TMPDIR": str(folder)},
        text=True,
    )
    with story:
        assert story.stdout
        # Both runners of this scene wait for the hotel's slow answer.
        ports = []
        while "carol.toml --store" not in (line := story.stdout.readline()):
            assert line, "the story ended too early"
            ports += [int(port) for port in re.findall(r"http://127.0.0.1:(\d+)", line)]
        (stage,) = folder.iterdir()
        story.send_signal(number)
        story.stdout.read()
        story.wait(SECONDS_MAX)
    assert story.returncode in {-number, 128 + number}
    assert list(folder.iterdir()) == []
    assert len(ports) == 3
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), SECONDS_MAX)
    assert not is_anybody_in(stage)


def is_anybody_in(folder: Path) -> bool:
    """Whether a process still stands in a folder, removed or not."""
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            place = str(process.readlink())
        except OSError:
            # It ended meanwhile, or is somebody else's.
            continue
        if place.startswith(str(folder)):
            return True
    return False


def test_the_plan_of_the_example_is_the_plan_of_the_demo():
    example = tomllib.loads((ROOT / "examples" / "trip" / "plan.toml").read_text("utf-8"))
    urls = {service: f"http://127.0.0.1:{PORTS[service]}" for service in SERVICES}
    demo = tomllib.loads(plan_text(urls, "Alice"))
    assert example.pop("name")
    assert demo.pop("name")
    assert example == demo
