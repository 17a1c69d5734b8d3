"""`verify` and `doctor`: whether all is well.

Owns: what counts as wrong.
"""

from __future__ import annotations

import click

from aumai_transactions.cli.diagnosis import Finding, diagnose
from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.screen import Tone, shown
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import Settings, json_option, named, store_option
from aumai_transactions.cli.tables import Cell, aligned

_TONES: dict[str, Tone] = {"ok": "good", "note": "warn", "wrong": "bad"}


@click.command("verify")
@click.argument("words", metavar="[TX]", nargs=-1, required=False)
@click.option("--tx-id", metavar="ID", help="The transaction, instead of TX.")
@store_option()
@json_option()
@click.pass_obj
def verify_command(settings: Settings, words: tuple[str, ...], tx_id: str | None) -> Code:
    """Check the hash chain and every entry of one journal, or of all."""
    name = named(words, tx_id)[0] if words or tx_id is not None else None
    with session(settings) as held:
        manager = held.reader()
        found = manager.verify(held.find_id(name) if name is not None else None)
    out = settings.out
    if settings.as_json:
        out.say_json(found.model_dump(mode="json"))
    else:
        transactions = f"{found.transactions:,} transaction{'' if found.transactions == 1 else 's'}"
        verdict = (
            out.styled("intact", "good")
            if found.is_intact
            else out.styled(f"{len(found.problems)} damaged", "bad")
        )
        out.say(f"{transactions}, {found.entries:,} entries: {verdict}")
        for problem in found.problems.values():
            out.say(f"  {shown(problem)}")
    return Code.done if found.is_intact else Code.error


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
