"""The systems outside that the jobs talk to, made of the settings once for each process."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from config.settings import Settings
from jobs.gateway.stripe import StripeGateway
from jobs.mailer import DirectoryMailer, SmtpMailer
from jobs.notify import Post
from jobs.throttle import Limits
from worker.limits import limits
from worker.stream import open_redis


@dataclass(frozen=True, slots=True)
class Outside:
    """The card processor with the limits on its use, the mail, and the Redis that carries events. Shared by
    threads."""

    gateway: StripeGateway
    limits: Limits
    post: Post
    stream: redis.Redis


def outside(settings: Settings) -> Outside:
    """Everything outside, not connected yet. Raises ``SettingsError`` where a setting for it is missing."""
    key = settings.stripe_api_key
    mailer = DirectoryMailer(settings.mail_dir) if settings.mail_dir else SmtpMailer(settings.needed("smtp_url"))
    return Outside(
        gateway=StripeGateway(
            key.get_secret_value() if key else "", settings.stripe_api_base, settings.gateway_timeout_s
        ),
        limits=limits(settings),
        post=Post(mailer, settings.mail_from),
        stream=open_redis(settings.needed("redis_url")),
    )
