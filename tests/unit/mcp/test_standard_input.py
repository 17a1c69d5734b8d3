"""Tests of standard input, line by line, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio
from aumai_transactions.mcp.standard_input import Lines

async def main():
    async for line in Lines():
        print(len(line), line[:3])

asyncio.run(main())
"""
LONG = b"a" * 200_000


@pytest.mark.parametrize(
    "said, lines",
    [
        (b"", []),
        (b"one\n", ["3 one"]),
        (b"one\ntwo", ["3 one", "3 two"]),
        (b"one\n\n\xff", ["3 one", "0 ", "1 \ufffd"]),
        (LONG + b"\n" + LONG + b"b", ["200000 aaa", "200001 aaa"]),
    ],
    ids=["nothing", "a line", "no end", "empty and broken", "longer than one piece"],
)
def test_every_line_is_heard_whatever_the_pieces_that_it_comes_in(
    said: bytes, lines: list[str]
) -> None:
    environment = {"PYTHONIOENCODING": "utf-8"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=said,
        capture_output=True,
        check=True,
        env=environment,
    )
    assert ran.stdout.decode().splitlines() == lines
