"""`refill intake`: the process that posts spend events from the stream."""

from __future__ import annotations

import gc
from typing import Final

from config.settings import load_settings
from jobs.ledger.database import check_schema, connect
from worker import logs
from worker.cli.parts import example, single
from worker.intake import Intake
from worker.stopping import StopRequest

# The collector looks for circles whenever so many more objects were made than freed. By default that is 700, and each
# of tens of thousands of events in flight, which has none, would be looked at over and over: a fifth of all work.
COLLECT_AFTER: Final = 100_000

app = single()


@app.command("intake", epilog=example("refill intake"))
def _intake() -> None:
    """Post spend events from the Redis stream refill:spend into the ledger, until stopped."""
    settings = load_settings(require=["database_url", "redis_url"])
    logs.configure("intake", settings.log_format, settings.log_level)
    with connect(settings.needed("database_url"), application="refill intake") as connection:
        check_schema(connection)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    stop = StopRequest()
    stop.listen()
    Intake(settings).run(stop)
