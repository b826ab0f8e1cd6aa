"""The command line. Each command is a module beside this one, imported when it is called, so that help is quick.

To add a command: a module with ``app`` (see ``worker.cli.parts``) and one line in ``COMMANDS``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from worker.cli.lazy import Entry, build

COMMANDS = {
    "up": Entry("worker.cli.up", "Run everything here, with what is missing embedded."),
    "migrate": Entry("worker.cli.migrate", "Bring the database to this release."),
    "intake": Entry("worker.cli.intake", "Process: post spend events from the stream."),
    "scheduler": Entry("worker.cli.scheduler", "Process: trigger the sweeps."),
    "worker": Entry("worker.cli.worker", "Process: evaluate, charge, send mail."),
    "settings": Entry("worker.cli.settings", "Every setting, its value and where it is from."),
    "status": Entry("worker.cli.status", "How refill is, and what waits."),
    "audit": Entry("worker.cli.audit", "Prove that the books are right."),
    "program": Entry("worker.cli.program", "Programs: what credit is on sale, on which terms."),
    "organisation": Entry("worker.cli.organisation", "Organisations: the customers of the business."),
    "account": Entry("worker.cli.account", "Accounts: open, show, close."),
    "member": Entry("worker.cli.member", "Members: who may do what in an organisation."),
    "card": Entry("worker.cli.card", "Cards: save, list, block, unblock."),
    "policy": Entry("worker.cli.policy", "Policies: when to warn and when to recharge."),
    "grant": Entry("worker.cli.grant", "Give an account promotional credit."),
    "spend": Entry("worker.cli.spend", "Post one spend event."),
    "history": Entry("worker.cli.history", "What came in and went out."),
    "explain": Entry("worker.cli.explain", "Why it did, or did not, recharge."),
    "archive": Entry("worker.cli.archive", "Old months of entries: out to files and back."),
    "run": Entry("worker.cli.run", "Run one scheduled job by hand."),
    "replay": Entry("worker.cli.replay", "Send the spends of a trace to the stream."),
    "sandbox": Entry("worker.cli.sandbox", "Run the sandbox card processor."),
    "demo": Entry("worker.cli.demo", "Sample spends for a first run.", hidden=True),
}

EXIT_UNHEARD = 141  # 128 + SIGPIPE, as shells expect


def main() -> None:
    """The console script ``refill``: does one command and ends with its exit status, never with a traceback."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """One command; its exit status: 0 done, 1 refused, 2 put wrongly. Whatever goes wrong is said on standard error."""
    from worker.cli.invocation import Invocation, checked, refusal

    invocation, rest = Invocation.read(arguments)
    try:
        checked(rest)
        status = build(COMMANDS).main(rest or ["--help"], prog_name="refill", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        return status or 0
    except (BrokenPipeError, SystemExit):  # whoever read our output has gone; Typer ends itself over it
        from worker.output import silence_standard_output

        silence_standard_output()
        return EXIT_UNHEARD
    except BaseException as error:  # noqa: BLE001 - the edge of the process: every exception becomes a code here
        from worker.console import Printer

        return Printer(invocation.as_json).failure(refusal(error, rest))
