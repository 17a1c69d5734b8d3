"""Record the golden journals of this release: `python tests/golden/record.py`.

Owns: the folder of the present version, and no other: a file of a release that is out is never
written again. With the same sources it writes the same bytes, on every machine.
"""
# mypy: disable-error-code="arg-type, dict-item, union-attr, var-annotated"

import importlib.util
import json
import re
import sys
from pathlib import Path

import aumai_transactions
from aumai_transactions.drivers import ids
from aumai_transactions.store import Query

HERE = Path(__file__).parent
NAME = "journals.jsonl"
NOTE = "Recorded by tests/golden/record.py; never written again once its release is out."
DRIVER = re.compile(rb'"driver_id":"([0-9a-f]{32})"')
APPEND = re.compile(rb'"id":"([0-9a-f]{16})\.')


def sibling(name):
    """Import a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"golden_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def renamed(bodies):
    """Give what is drawn anew in every process a name that is the same every time."""
    names = {}
    for body in bodies:
        for pattern, letter in ((DRIVER, "d"), (APPEND, "a")):
            for found in pattern.findall(body):
                names.setdefault(found, f"{letter}{len(names) + 1}".encode())
    for found, name in names.items():
        bodies = [body.replace(found, name) for body in bodies]
    return bodies


def recorded():
    """Yield the lines of each journal: its head, then each body and what is read up to there."""
    reading, scenes = sibling("reading"), sibling("scenes")
    for number, scene in enumerate(scenes.SCENES):
        ids._ids.seed(number)
        stage = scenes.Stage(number)
        try:
            scene(stage)
        finally:
            stage.close()
        for place, listed in enumerate(stage.store.find(Query(limit=1_000)), 1):
            name = listed.summary.transaction_id
            journal = stage.store.read(name)
            bodies = renamed([stored.body for stored in journal.entries])
            yield from lines_of(reading, f"{scene.__name__}-{place}", name, bodies)


def lines_of(reading, title, transaction_id, bodies):
    whole = reading.journal_of(transaction_id, bodies)
    head = {"journal": title, "transaction_id": transaction_id, "head": whole.head_hash.hex()}
    yield in_one_line(head)
    for end, body in enumerate(bodies, 1):
        yield body.decode()
        prefix = reading.journal_of(transaction_id, bodies[:end])
        yield in_one_line(list(reading.reading_of(prefix)))


def in_one_line(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def text():
    """The whole file."""
    first = {"note": NOTE, "version": aumai_transactions.__version__}
    return "".join(f"{line}\n" for line in (in_one_line(first), *recorded()))


def main():
    folder = HERE / aumai_transactions.__version__
    folder.mkdir(exist_ok=True)
    path = folder / NAME
    written = text()
    path.write_text(written, "utf-8")
    lines = [json.loads(line) for line in written.splitlines()]
    journals = sum("journal" in line for line in lines)
    kinds = {line["kind"] for line in lines if "kind" in line}
    prefixes = sum(isinstance(line, list) for line in lines)
    print(f"{path}: {journals} journals, {prefixes} prefixes, {len(kinds)} kinds of entries")


if __name__ == "__main__":
    sys.exit(main())
