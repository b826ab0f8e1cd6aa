"""`refill worker`: the process that evaluates, charges, sends mail, publishes and runs the sweeps."""

from __future__ import annotations

from config.settings import load_settings
from worker import logs
from worker.cli.parts import example, single
from worker.stopping import StopRequest
from worker.workers import Workers, check_surroundings

app = single()


@app.command("worker", epilog=example("refill worker"))
def _worker() -> None:
    """Handle pokes and run the sweeps until stopped: evaluate accounts, charge cards, send mail, publish events."""
    settings = load_settings(require=["database_url", "redis_url", "broker_url", "stripe_api_key", "mail"])
    logs.configure("worker", settings.log_format, settings.log_level)
    stop = StopRequest()
    stop.listen()
    check_surroundings(settings)
    Workers(settings).run(stop)
