"""The engines that tests use, by the name of a folder, as the test kit asks for them."""

import os
import shutil
from pathlib import Path

from aumai_transactions.engines.dbos import DbosEngine


def dbos_sqlite(folder: Path) -> DbosEngine:
    path = folder / "dbos.db"
    template = os.environ.get("AUMAI_DBOS_TEMPLATE")
    if template and not path.exists():
        # To make one takes DBOS longer than all that a process here does.
        shutil.copyfile(template, path)
    return DbosEngine(f"sqlite:///{path}", executor_id=name_of(folder))


def dbos_postgres(folder: Path) -> DbosEngine:
    return DbosEngine(os.environ["AUMAI_DBOS_URL"], executor_id=name_of(folder))


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}.{folder.name}"
