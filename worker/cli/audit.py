"""`refill audit`"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from jobs.audit import EXAMPLES, AuditFailed, Finding, Verdict, examine
from worker.cli.parts import Session, example, single
from worker.console import Column, Row

app = single()

_COLUMNS = (
    Column("check", "Check"),
    Column("subject", "What"),
    Column("expected", "Expected"),
    Column("found", "Found"),
)


@app.command("audit", epilog=example("refill audit", "refill audit --examples 100 --json"))
def _audit(
    context: typer.Context,
    examples: Annotated[int, typer.Option(min=1, help="How many faults of each check to name.")] = EXAMPLES,
) -> None:
    """Prove that the books are right: every identity of the ledger, on one snapshot, while traffic flows.

    Names what breaks an identity and ends with status 1 and code audit_failed.
    """
    session = Session.of(context)
    verdicts = []
    with session.ledger() as connection:
        for verdict in examine(connection, examples=examples):
            session.printer.done(_sentence(verdict), _row(verdict))
            verdicts.append(verdict)
    findings = [finding for verdict in verdicts for finding in verdict.findings]
    if findings and not session.printer.as_json:
        session.printer.rows(_COLUMNS, _finding_rows(findings))
    broken = [verdict.check.code for verdict in verdicts if not verdict.holds]
    if broken:
        raise AuditFailed(f"The books are wrong: {', '.join(broken)}.", checks=broken)
    session.printer.note(f"The books are right: {len(verdicts)} checks.")


def _sentence(verdict: Verdict) -> str:
    sign = "✗" if not verdict.holds else "!" if verdict.total else "✓"
    count = f": {verdict.total:,}" if verdict.total else ""
    return f"{sign} {verdict.check.sentence}{count}"


def _row(verdict: Verdict) -> Row:
    return {
        "check": verdict.check.code,
        "sentence": verdict.check.sentence,
        "holds": verdict.holds,
        "count": verdict.total,
        "findings": [{"subject": f.subject, "expected": f.expected, "found": f.found} for f in verdict.findings],
        "duration_ms": round(verdict.duration_ms),
    }


def _finding_rows(findings: list[Finding]) -> Iterator[Row]:
    for finding in findings:
        yield {
            "check": finding.check.code,
            "subject": finding.subject,
            "expected": finding.expected,
            "found": finding.found,
        }
