"""`verify` and `doctor`: whether all is well.

Owns: what counts as wrong.
"""

from __future__ import annotations

import click

from aumai_transactions.cli.ages import Age
from aumai_transactions.cli.diagnosis import diagnose
from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import Settings, json_option, named, store_option
from aumai_transactions.cli.tables import aligned
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.times import instant
from aumai_transactions.models import Verification
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.verdicts import Finding
from aumai_transactions.wording.words import Cell, Tone

_TONES: dict[str, Tone] = {"ok": "good", "note": "warn", "wrong": "bad"}


@click.command("verify")
@click.argument("words", metavar="[TX]", nargs=-1, required=False)
@click.option("--tx-id", metavar="ID", help="The transaction, instead of TX.")
@click.option(
    "--witness",
    metavar="FILE",
    type=click.Path(),
    help="Compare with what `witness FILE` has noted: journals that are cut, gone or written anew, "
    "an older copy of the store.",
)
@click.option(
    "--purged",
    "age",
    type=Age(),
    metavar="AGE",
    help="With --witness: what ended longer ago than this may have been purged: 30d, 12h.",
)
@store_option()
@json_option()
@click.pass_obj
def verify_command(
    settings: Settings,
    words: tuple[str, ...],
    tx_id: str | None,
    witness: str | None,
    age: int | None,
) -> Code:
    """Check the hash chain and every entry of one journal, or of all and the store."""
    if age is not None and witness is None:
        raise click.UsageError("--purged says what --witness may miss; give that too.")
    name = named(words, tx_id)[0] if words or tx_id is not None else None
    before = None if age is None else instant(SystemClock().now() - age * 1_000_000)
    with session(settings) as held:
        manager = held.reader()
        # Why as it is: one that is gone is what a witness is asked about.
        found_name = name if name is None or witness is not None else held.find_id(name)
        found = manager.verify(found_name, witness=witness, purged_before=before)
    out = settings.out
    if settings.as_json:
        out.say_json(found.model_dump(mode="json"))
    else:
        transactions = f"{found.transactions:,} transaction{'' if found.transactions == 1 else 's'}"
        verdict = (
            out.styled("intact", "good") if found.is_intact else out.styled(_verdict(found), "bad")
        )
        out.say(f"{transactions}, {found.entries:,} entries: {verdict}")
        for problem in (*found.store_problems, *found.problems.values()):
            out.say(f"  {shown(problem)}")
    return Code.done if found.is_intact else Code.error


def _verdict(found: Verification) -> str:
    parts = ["the store is damaged"] if found.store_problems else []
    if found.problems:
        parts.append(f"{len(found.problems)} damaged")
    return ", ".join(parts)


@click.command("doctor")
@store_option()
@json_option()
@click.pass_obj
def doctor_command(settings: Settings) -> Code:
    """Check this machine and the store; exit 1 when something is wrong."""
    findings = diagnose(settings)
    wrong = [finding for finding in findings if finding.verdict == "wrong"]
    if settings.as_json:
        settings.out.say_json(
            {
                "ok": not wrong,
                "findings": [
                    {"name": item.name, "verdict": item.verdict, "value": item.value}
                    for item in findings
                ],
            }
        )
    else:
        _tell(settings, findings, len(wrong))
    return Code.error if wrong else Code.done


def _tell(settings: Settings, findings: list[Finding], wrong: int) -> None:
    out = settings.out
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        row = (
            Cell(finding.verdict, _TONES[finding.verdict]),
            Cell(finding.name),
            Cell(shown(finding.value)),
        )
        out.say(aligned(out, row, (5, width, 0)))
    verdict = f"{wrong} wrong" if wrong else "all is well"
    out.say("", out.styled(verdict, "bad" if wrong else "good"))
