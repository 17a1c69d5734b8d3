"""The blocks of code of a page, and what the comments above them ask for.

Rules, each a comment on the line above a fence:
  1. A ```python block is a program: it is run in an empty folder and has to succeed.
  2. `<!-- continues -->`: the block goes on where the python block before it stopped.
  3. `<!-- run twice -->`: the first run dies by SIGKILL, and the second one succeeds.
  4. `<!-- not run: reason -->`: the block is only compiled.
  5. `<!-- needs name -->`: the block is run in the environment of that framework, by
     `tests/frameworks/test_shown.py`.
  6. A ```bash block of the README is run, with `bash -e`, where `<!-- run -->` asks for it.
"""

import re
from dataclasses import dataclass, replace

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
COMMENT_ABOVE = re.compile(r"<!--\s*(?P<words>[^>]*?)\s*-->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block of code, and what the comment above it asks for."""

    line: int
    language: str
    code: str
    directive: str

    def __str__(self) -> str:
        return f"line-{self.line}"


def blocks_of(markdown: str) -> list[Block]:
    found = []
    for fence in FENCE.finditer(markdown):
        before = markdown[: fence.start()]
        comment = COMMENT_ABOVE.search(before)
        found.append(
            Block(
                line=before.count("\n") + 1,
                language=fence["language"],
                code=fence["code"],
                directive=comment["words"] if comment else "",
            )
        )
    return found


def programs_of(blocks: list[Block], needs: str | None = None) -> list[Block]:
    """The python blocks that are run, each with the blocks that it continues in front.

    Args:
        needs: Only those for the environment of this framework; None for those that need none.
    """
    programs: list[Block] = []
    for block in blocks:
        if block.language != "python" or block.directive.startswith("not run:"):
            continue
        if block.directive == "continues":
            earlier = programs[-1] if programs else replace(block, code="", directive="")
            code = f"{earlier.code}\n{block.code}"
            programs.append(replace(block, code=code, directive=earlier.directive))
        else:
            programs.append(block)
    wanted = "" if needs is None else f"needs {needs}"
    return [one for one in programs if one.directive.removeprefix("run twice") == wanted]
