"""`backup`, `restore` and `witness`: what is kept outside of the store.

Owns: what these print.
"""

from __future__ import annotations

import os

import click

from aumai_transactions.cli.commands.person import somebody
from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.cli.session import MEMORY_NAMES, session
from aumai_transactions.cli.settings import Settings, default_store, json_option, store_option
from aumai_transactions.drivers.backups import restore
from aumai_transactions.models import BackupReport
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import when


@click.command("backup")
@click.argument("file", metavar="FILE", type=click.Path())
@store_option()
@json_option()
@click.pass_obj
def backup_command(settings: Settings, file: str) -> Code:
    """Write the whole store into a new file, while others go on with it."""
    with session(settings) as held:
        report = held.reader().back_up(file)
    if settings.as_json:
        settings.out.say_json(report.model_dump(mode="json", exclude={"waiting"}))
    else:
        settings.out.say(f"{shown(report.path)}: {_counted(report)}")
        _tell_damaged(settings, report, "could not be backed up, and is not in it")
    return Code.error if report.damaged else Code.done


@click.command("restore")
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--note", default="", metavar="TEXT", help="Why; it stands in the journals.")
@store_option()
@json_option()
@click.pass_obj
def restore_command(settings: Settings, file: str, note: str) -> Code:
    """Make a new store of a backup; what was not finished in it waits for a person."""
    if settings.store in MEMORY_NAMES:
        raise Refused("a store in memory ends with this command; name a file.", Code.usage)
    target = settings.store
    if target is None:
        target = os.fspath(default_store())
        # Why: the disk that died may have held the folder as well.
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
    report = restore(file, target, by=somebody(), note=note)
    if settings.as_json:
        settings.out.say_json(report.model_dump(mode="json"))
        return Code.done
    made = f"as of {when(report.made_at)}"
    settings.out.say(f"{shown(report.path)}: {_counted(report)}, {made}")
    _tell_damaged(settings, report, "was damaged when it was backed up, and is not in it")
    if report.waiting:
        count = len(report.waiting)
        wait = (
            "was not finished in it, and waits"
            if count == 1
            else "were not finished in it, and wait"
        )
        command = settings.command("outstanding")
        settings.err.say(f"{count:,} {wait} for a person: {command}")
    return Code.done


@click.command("witness")
@click.argument("file", metavar="FILE", type=click.Path())
@store_option()
@json_option()
@click.pass_obj
def witness_command(settings: Settings, file: str) -> Code:
    """Note in a file where each journal ends now; `verify --witness FILE` compares."""
    with session(settings) as held:
        report = held.reader().write_witness(file)
    if settings.as_json:
        settings.out.say_json(report.model_dump(mode="json"))
    else:
        heads = f"{report.transactions:,} transaction{'' if report.transactions == 1 else 's'}"
        settings.out.say(f"{shown(report.path)}: {heads}, {report.written:,} of them new or moved")
    return Code.done


def _counted(report: BackupReport) -> str:
    transactions = f"{report.transactions:,} transaction{'' if report.transactions == 1 else 's'}"
    return f"{transactions}, {report.entries:,} entries"


def _tell_damaged(settings: Settings, report: BackupReport, what: str) -> None:
    for name, problem in report.damaged.items():
        settings.err.say(f"note: transaction {shown(name)} {what}: {shown(problem)}")
