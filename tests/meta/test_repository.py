"""The checkout as a whole: what it may name, and what has to agree with what."""

import hashlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import aumai_transactions

# Written in two halves, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a package registry": [
        *("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "npmjs" + ".com"),
        *("crates" + ".io", "anaconda" + ".org", "conda" + ".io", "/opt/py" + "pi"),
        *("index" + "-url", "find" + "-links"),
    ],
    "a folder of one machine": ["/work" + "/", "/root" + "/", "/opt/" + "wheels", ".." + "/shared"],
}
LOCK_FILES = re.compile(r"(.*\.lock|pylock.*\.toml|package-lock\.json|pnpm-lock\.yaml)")
LICENSE_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
README_COMMANDS = ["pip install . && aumai-transactions demo", 'pip install -e ".[dev]" && pytest']
MAKE_TARGETS_MAX = 12


def is_named(word: str, text: str) -> bool:
    """Whether `text` names it: a path counts where it starts, not inside a longer one."""
    start = r"(?<![\w.~-])" if word.startswith(("/", "..")) else ""
    return re.search(start + re.escape(word), text) is not None


def own_files(root: Path) -> list[Path]:
    """Every file that is part of the project: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        # An unpacked archive: everything that is not hidden, and the two hidden things we own.
        paths = {Path(folder, name) for folder, _, names in os.walk(root) for name in names}
        seen = {path.relative_to(root) for path in paths}
        hidden = {path for path in seen if any(p.startswith(".") for p in path.parts)}
        return sorted(seen - hidden | {path for path in hidden if path.parts[0] == ".ci"})
    return sorted(
        {Path(name) for name in listed.stdout.split("\0") if name and (root / name).is_file()}
    )


@pytest.fixture(scope="module")
def texts(root) -> dict[str, str]:
    found = {}
    for path in own_files(root):
        content = (root / path).read_bytes()
        if b"\0" not in content:
            found[path.as_posix()] = content.decode("utf-8")
    assert {"pyproject.toml", "LICENSE"} <= set(found)
    return found


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_no_file_names(kind, texts):
    found = [
        f"{path}: {word}"
        for path, text in texts.items()
        for word in FORBIDDEN[kind]
        if is_named(word, text)
    ]
    assert found == []


def test_a_forbidden_name_is_seen_where_it_starts_and_nowhere_else():
    folder = FORBIDDEN["a folder of one machine"][0]
    assert is_named(folder, f'open("{folder}main")')
    assert not is_named(folder, f"https://example.com{folder}x and frame{folder[1:]}x")


def test_no_lock_file_is_kept(root):
    assert [str(path) for path in own_files(root) if LOCK_FILES.fullmatch(path.name)] == []


def test_every_pin_is_exact_and_nothing_else_is_in_the_constraints(texts):
    lines = [line for line in texts["constraints.txt"].splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_development_tool_is_pinned(texts, project):
    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", name)[0]).lower()

    pinned = {canonical(line) for line in texts["constraints.txt"].splitlines()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], "hatchling"]
    assert [name for name in map(canonical, wanted) if name not in pinned] == []


def test_the_license_is_apache_2_word_for_word(root, project):
    assert hashlib.sha256((root / "LICENSE").read_bytes()).hexdigest() == LICENSE_SHA256
    assert project["license"] == "Apache-2.0"


def test_the_version_is_the_same_everywhere(project):
    assert aumai_transactions.__version__ == project["version"]


def test_the_changelog_knows_what_comes_next_or_what_this_is(texts, project):
    headings = re.findall(r"^## \[?([^\]\s]+)", texts["CHANGELOG.md"], re.MULTILINE)
    assert {"Unreleased", project["version"]} & set(headings)


def test_two_packages_are_all_that_the_package_needs(project):
    assert project["dependencies"] == ["pydantic>=2.11,<3", "click>=8.1.8,<9"]


@pytest.mark.parametrize("command", README_COMMANDS)
def test_a_command_that_ci_runs_is_a_line_of_the_readme(command, texts):
    assert command in texts["README.md"].splitlines()
    assert command in texts[".ci/run"]


def test_ci_can_be_executed(root):
    assert os.access(root / ".ci" / "run", os.X_OK)


def test_no_page_loads_a_picture_from_somewhere_else(texts):
    remote = re.compile(r"!\[[^\]]*\]\(https?:|<img\b[^>]*https?:")
    pages = {path: text for path, text in texts.items() if path.endswith(".md")}
    assert [path for path, text in pages.items() if remote.search(text)] == []


def test_every_make_target_is_explained_and_one_line_long(texts):
    lines = texts["Makefile"].splitlines()
    targets = [line for line in lines if re.match(r"[a-z-]+:", line)]
    recipes = [line for line in lines if line.startswith("\t")]
    assert len(targets) == len(recipes) <= MAKE_TARGETS_MAX
    assert [line for line in targets if not re.search(r"## \w", line)] == []


def test_every_make_target_is_in_the_guide_for_contributors(texts):
    targets = set(re.findall(r"^([a-z-]+):", texts["Makefile"], re.MULTILINE)) - {"help"}
    named = set(re.findall(r"`make ([a-z-]+)`", texts["CONTRIBUTING.md"]))
    assert targets == named
