"""Each setting: its name in the environment, type, default, bounds and one sentence about it.

Units are last in the names. An upper bound that is a card network's or processor's rule says whose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.faults import SettingsError, SettingsFault
from config.forms import directory, hide_key, hide_password, mail_address, processor_key, processor_url, url_form

Needed = Literal["database_url", "redis_url", "broker_url", "smtp_url"]


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """Whose rule an upper bound is; said to whoever tries to exceed it."""

    sentence: str


_DatabaseUrl = Annotated[
    str,
    AfterValidator(
        url_form("postgresql", "postgres", example="postgresql://user:password@host:5432/database", host_needed=False)
    ),
]
_RedisUrl = Annotated[str, AfterValidator(url_form("redis", "rediss", "unix", example="redis://host:6379/0"))]
_BrokerUrl = Annotated[
    str, AfterValidator(url_form("redis", "rediss", "unix", "amqp", "amqps", example="redis://host:6379/0"))
]
_SmtpUrl = Annotated[str, AfterValidator(url_form("smtp", "smtps", example="smtp://user:password@host:587"))]
_StripeKey = Annotated[SecretStr, AfterValidator(lambda key: SecretStr(processor_key(key.get_secret_value())))]
_Directory = Annotated[Path, AfterValidator(directory)]
_LowerCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
_Port = Annotated[int, Ge(0), Le(65_535)]

_STRIPE_RETRIES = NetworkRule("Stripe retries a declined payment at most 8 times")
_MASTERCARD_DECLINES = NetworkRule("Mastercard allows 10 declines of one card in 24 hours")
_VISA_REATTEMPTS = NetworkRule("Visa allows 15 re-attempts of one card in 30 days, the strictest published limit")


class Settings(BaseSettings):
    """All settings, checked. ``load_settings`` makes one; code that builds one itself gives values by field name."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, hide_input_in_errors=True
    )

    database_url: _DatabaseUrl | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="The PostgreSQL database (15 or later) that holds the ledger.",
    )
    redis_url: _RedisUrl | None = Field(
        None, validation_alias="REDIS_URL", description="The Redis that carries the streams of spend and of events."
    )
    broker_url: _BrokerUrl | None = Field(
        default_factory=lambda values: values.get("redis_url"),
        validation_alias="REFILL_BROKER_URL",
        description="The broker that carries the pokes to the workers; amqp:// is RabbitMQ.",
    )
    stripe_api_key: _StripeKey | None = Field(
        None, validation_alias="STRIPE_API_KEY", description="The secret key of the card processor."
    )
    stripe_api_base: Annotated[str, AfterValidator(processor_url)] = Field(
        "https://api.stripe.com", validation_alias="STRIPE_API_BASE", description="Where the card processor answers."
    )
    smtp_url: _SmtpUrl | None = Field(
        None, validation_alias="SMTP_URL", description="The mail server that delivers messages."
    )
    mail_from: Annotated[str, AfterValidator(mail_address)] = Field(
        "refill@localhost", validation_alias="MAIL_FROM", description="The sender of every message."
    )
    mail_dir: _Directory | None = Field(
        None,
        validation_alias="MAIL_DIR",
        description="A directory that takes messages as files; where it is set, SMTP_URL is not used.",
    )
    data: _Directory = Field(
        Path(".refill"),
        validation_alias="REFILL_DATA",
        description="The directory of `refill up`: embedded servers, messages, logs and refill.env.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _LowerCase] = Field(
        "info", validation_alias="REFILL_LOG_LEVEL", description="The least level that is logged."
    )
    log_format: Annotated[Literal["auto", "json", "console"], _LowerCase] = Field(
        "auto",
        validation_alias="REFILL_LOG_FORMAT",
        description="The form of log lines; auto is console on a terminal and json elsewhere.",
    )
    intake_batch_max: Annotated[int, Ge(1), Le(50_000)] = Field(
        5_000,
        validation_alias="REFILL_INTAKE_BATCH_MAX",
        description="The most spend events that one transaction of the intake posts.",
    )
    intake_lanes: Annotated[int, Ge(1), Le(16)] = Field(
        2,
        validation_alias="REFILL_INTAKE_LANES",
        description="How many transactions one intake posts at once; each has its share of the accounts.",
    )
    intake_block_ms: Annotated[int, Ge(1), Le(60_000)] = Field(
        1_000,
        validation_alias="REFILL_INTAKE_BLOCK_MS",
        description="How long, in milliseconds, the intake waits on an empty stream before it looks around.",
    )
    intake_claim_idle_s: Annotated[int, Ge(1), Le(3_600)] = Field(
        30,
        validation_alias="REFILL_INTAKE_CLAIM_IDLE_S",
        description="After how many seconds the events of a silent intake are taken over by another.",
    )
    entry_keep_months: Annotated[int, Ge(1), Le(1_200)] = Field(
        13,
        validation_alias="REFILL_ENTRY_KEEP_MONTHS",
        description="How many whole months of entries `refill archive create` leaves in the ledger.",
    )
    sweep_interval_s: Annotated[int, Ge(1), Le(3_600)] = Field(
        30,
        validation_alias="REFILL_SWEEP_INTERVAL_S",
        description="How often, in seconds, the sweeps look for rows that no poke has reached.",
    )
    worker_threads: Annotated[int, Ge(1), Le(64)] = Field(
        8, validation_alias="REFILL_WORKER_THREADS", description="How many pokes one worker process handles at once."
    )
    gateway_timeout_s: Annotated[int, Ge(1), Le(80)] = Field(
        20,
        validation_alias="REFILL_GATEWAY_TIMEOUT_S",
        description="After how many seconds a silent card processor leaves an attempt unknown.",
    )
    card_cooling_success_s: Annotated[int, Ge(1), Le(2_592_000)] = Field(
        900,
        validation_alias="REFILL_CARD_COOLING_SUCCESS_S",
        description="How many seconds a card rests after a success.",
    )
    card_cooling_failure_s: Annotated[int, Ge(1), Le(2_592_000)] = Field(
        3_600,
        validation_alias="REFILL_CARD_COOLING_FAILURE_S",
        description="How many seconds a card rests after a failure.",
    )
    card_attempts_24h_max: Annotated[int, Ge(1), Le(8), _STRIPE_RETRIES] = Field(
        8, validation_alias="REFILL_CARD_ATTEMPTS_24H_MAX", description="The most attempts on one card in 24 hours."
    )
    card_declines_24h_max: Annotated[int, Ge(1), Le(10), _MASTERCARD_DECLINES] = Field(
        3,
        validation_alias="REFILL_CARD_DECLINES_24H_MAX",
        description="How many declines in 24 hours rest a card for the day.",
    )
    card_reattempts_30d_max: Annotated[int, Ge(1), Le(15), _VISA_REATTEMPTS] = Field(
        8,
        validation_alias="REFILL_CARD_REATTEMPTS_30D_MAX",
        description="The most attempts in 30 days on one card that was declined.",
    )
    card_breaker_declines: Annotated[int, Ge(1), Le(8), _STRIPE_RETRIES] = Field(
        3,
        validation_alias="REFILL_CARD_BREAKER_DECLINES",
        description="How many declines in a row stop a card until its holder acts.",
    )
    leader_retry_s: Annotated[int, Ge(1), Le(300)] = Field(
        2,
        validation_alias="REFILL_LEADER_RETRY_S",
        description="How often, in seconds, a scheduler that is not the leader asks to be.",
    )
    postgres_port: _Port = Field(
        0,
        validation_alias="REFILL_POSTGRES_PORT",
        description="The port of the embedded PostgreSQL; 0 is any free one.",
    )
    redis_port: _Port = Field(
        0, validation_alias="REFILL_REDIS_PORT", description="The port of the embedded Redis; 0 is any free one."
    )
    sandbox_port: _Port = Field(
        0, validation_alias="REFILL_SANDBOX_PORT", description="The port of the sandbox processor; 0 is any free one."
    )

    _sources: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed: ``load_settings`` reads the environment, so that it can say where each value is from."""
        return (init_settings,)

    def needed(self, name: Needed) -> str:
        """The value of a setting that this process cannot do without.

        Raises ``SettingsError`` where it has none; ``load_settings(require=...)`` finds that out at the start.
        """
        value: str | None = getattr(self, name)
        if value is None:
            raise SettingsError([SettingsFault(env_name(name), None, "is needed")])
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Fields as they may be shown, so that no log or traceback ever holds a password."""
        return ((name, shown(name, getattr(self, name))) for name in type(self).model_fields)


def env_name(field_name: str) -> str:
    """The name of a field in the environment."""
    return str(Settings.model_fields[field_name].validation_alias)


def field_names() -> dict[str, str]:
    """The field of each name in the environment."""
    return {env_name(name): name for name in Settings.model_fields}


def shown(name: str, value: object) -> str:
    """A value of the field ``name``, checked or not, fit to be shown."""
    if value is None:
        return ""
    if name == "stripe_api_key":
        return hide_key(value.get_secret_value() if isinstance(value, SecretStr) else str(value))
    text = str(value).encode("utf-8", "backslashreplace").decode()
    text = hide_password(text) if name.endswith(("_url", "_base")) else text
    return text if len(text) <= 120 else f"{text[:120]}…"
