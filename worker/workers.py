"""The worker process: threads that take pokes out of the queues until they are told to stop.

One Dramatiq worker for each queue, so that a system outside that keeps us waiting holds back its own pokes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Final

import redis
import structlog
from dramatiq import Worker

from config.settings import Settings
from jobs.errors import RedisUnavailable
from jobs.ledger.database import check_schema, connect
from worker.actors import Tasks, declare
from worker.broker import AnyBroker, open_broker
from worker.outside import outside
from worker.pokes import QUEUES, Queue, Sender
from worker.pool import LedgerPool, open_pool
from worker.stopping import StopRequest
from worker.stream import open_redis

log = structlog.get_logger()

IDLE_WAKE_MS: Final = 1_000  # how often an idle thread looks whether it is to stop; queues have pauses of their own
STOP_MS_MAX: Final = 15_000  # less than a supervisor's patience; what is cut off is a row that a sweep finds
_LOOK_S: Final = 3_600


class Workers:
    """All threads of one worker process."""

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet. Raises ``SettingsError``."""
        self._threads = threads(settings.worker_threads)
        self._sender = Sender(open_broker(settings.needed("broker_url")))
        self._pools: dict[Queue, LedgerPool] = {}
        self._brokers: dict[Queue, AnyBroker] = {}
        self._workers: list[Worker] = []
        shared = outside(settings)
        for queue, count in self._threads.items():
            pool = open_pool(
                settings.needed("database_url"), count, f"refill worker {queue}", is_ready=queue == "charges"
            )
            broker = open_broker(settings.needed("broker_url"))
            declare(broker, queue, Tasks(pool, shared, self._sender))
            self._pools[queue] = pool
            self._brokers[queue] = broker
            self._workers.append(Worker(broker, worker_timeout=IDLE_WAKE_MS, worker_threads=count))

    def run(self, stop: StopRequest) -> None:
        """Works until asked to stop; then finishes what is in hand, for STOP_MS_MAX at most."""
        for worker in self._workers:
            worker.start()
        log.info("worker.started", threads=dict(self._threads))
        while not stop.is_set:
            stop.wait(_LOOK_S)
        self._stop()
        log.info("worker.stopped")

    def _stop(self) -> None:
        for broker in self._brokers.values():
            broker.close()
        with ThreadPoolExecutor(len(self._workers)) as together:
            list(together.map(lambda worker: worker.stop(timeout=STOP_MS_MAX), self._workers))
        for pool in self._pools.values():
            pool.close()


def threads(charges: int) -> Mapping[Queue, int]:
    """How many pokes of each queue are handled at once: the setting is for charges, the others need a few."""
    few = max(1, charges // 4)
    counts: dict[Queue, int] = dict.fromkeys(QUEUES, few) | {"charges": charges}
    return MappingProxyType(counts)


def check_surroundings(settings: Settings) -> None:
    """What a worker or a scheduler cannot do without, said at its start.

    Raises DatabaseUnavailable, SchemaOutdated, RedisUnavailable and BrokerUnavailable.
    """
    with connect(settings.needed("database_url"), application="refill start") as connection:
        check_schema(connection)
    with open_redis(settings.needed("redis_url")) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            raise RedisUnavailable(f"Redis does not answer: {error}") from error
    open_broker(settings.needed("broker_url")).check()
