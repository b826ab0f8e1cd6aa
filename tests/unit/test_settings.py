"""Settings: where they come from, and what is said when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.fields import env_name
from config.settings import Settings, SettingsError, SettingsFault, describe, load_settings

PASSWORD = "s3cr3t-p4ss"  # a word that must never be seen again

WRONG = {
    "DATABASE_URL": "mysql://host/database",
    "REDIS_URL": "http://host",
    "REFILL_BROKER_URL": "kafka://host",
    "STRIPE_API_KEY": "pk_test_publishable",
    "STRIPE_API_BASE": "http://api.example.com",
    "SMTP_URL": "smtp:host",
    "MAIL_FROM": "nobody",
    "MAIL_DIR": __file__,
    "REFILL_DATA": __file__,
    "REFILL_LOG_LEVEL": "loud",
    "REFILL_LOG_FORMAT": "xml",
    "REFILL_INTAKE_BATCH_MAX": "12.5",
    "REFILL_INTAKE_LANES": "17",
    "REFILL_INTAKE_BLOCK_MS": "0",
    "REFILL_INTAKE_CLAIM_IDLE_S": "-5",
    "REFILL_SWEEP_INTERVAL_S": "1e3",
    "REFILL_WORKER_THREADS": "9" * 5000,
    "REFILL_GATEWAY_TIMEOUT_S": "81",
    "REFILL_CARD_COOLING_SUCCESS_S": "0",
    "REFILL_CARD_COOLING_FAILURE_S": "15 minutes",
    "REFILL_CARD_ATTEMPTS_24H_MAX": "9",
    "REFILL_CARD_DECLINES_24H_MAX": "11",
    "REFILL_CARD_REATTEMPTS_30D_MAX": "16",
    "REFILL_CARD_BREAKER_DECLINES": "9",
    "REFILL_ENTRY_KEEP_MONTHS": "0",
    "REFILL_LEADER_RETRY_S": "\udcff",
    "REFILL_POSTGRES_PORT": "65536",
    "REFILL_REDIS_PORT": "-1",
    "REFILL_SANDBOX_PORT": "http",
}


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a refill.env of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_file(directory: Path, text: str) -> Path:
    path = directory / "refill.env"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def faults_of(environ: dict[str, str], **options: tuple[str, ...]) -> dict[str, SettingsFault]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, **options)  # type: ignore[arg-type]  # the requirement under test
    return {fault.name: fault for fault in caught.value.faults}


def test_every_setting_has_a_name_a_sentence_and_a_default_that_is_right() -> None:
    rows = describe(load_settings({}))
    assert len({row.name for row in rows}) == len(rows) == len(Settings.model_fields)
    for row in rows:
        assert row.sentence.endswith(".")
        assert row.source == "default"
    given_back = {row.name: row.value for row in rows if row.value}
    assert load_settings(given_back).model_dump() == load_settings({}).model_dump()


def test_every_fault_is_said_at_once() -> None:
    assert WRONG.keys() == {env_name(name) for name in Settings.model_fields}
    assert faults_of(WRONG).keys() == WRONG.keys()


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_single_wrong_value_stops_the_start_and_is_told_with_what_would_be_right(name: str) -> None:
    fault = faults_of({name: WRONG[name]})[name]
    assert fault.message.startswith("must ")
    assert fault.value


def test_an_error_ends_a_process_with_the_status_of_the_contract() -> None:
    assert (SettingsError.code, SettingsError.exit_status) == ("bad_settings", 2)
    text = str(SettingsError([SettingsFault("A", "1", "must be 2"), SettingsFault("B", None, "is needed")]))
    assert text == "2 settings are wrong:\n  A must be 2; it is '1'\n  B is needed"


@pytest.mark.parametrize(
    ("name", "limit", "whose"),
    [
        ("REFILL_CARD_ATTEMPTS_24H_MAX", 8, "Stripe"),
        ("REFILL_CARD_DECLINES_24H_MAX", 10, "Mastercard"),
        ("REFILL_CARD_REATTEMPTS_30D_MAX", 15, "Visa"),
        ("REFILL_CARD_BREAKER_DECLINES", 8, "Stripe"),
    ],
)
def test_the_throttle_can_be_set_up_to_the_networks_limit_and_not_above(name: str, limit: int, whose: str) -> None:
    load_settings({name: str(limit)})
    assert whose in faults_of({name: str(limit + 1)})[name].message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://user:{PASSWORD}@host/database"),
        ("DATABASE_URL", f"user:{PASSWORD}@host/database"),
        ("DATABASE_URL", f"mysql://host/database?password={PASSWORD}"),
        ("DATABASE_URL", f"postgresql://user:{PASSWORD}@host:99999/database"),
        ("REDIS_URL", f"http://:{PASSWORD}@host"),
        ("REDIS_URL", f"redis://:p@{PASSWORD}@host:x"),
        ("REFILL_BROKER_URL", f"kafka://user:{PASSWORD}@host"),
        ("SMTP_URL", f"http://user:{PASSWORD}@host"),
        ("STRIPE_API_BASE", f"ftp://user:{PASSWORD}@host"),
        ("STRIPE_API_KEY", PASSWORD),
        ("STRIPE_API_KEY", f"sk_test_{PASSWORD}!"),
        ("REFILL_PASSWORD", PASSWORD),
    ],
)
def test_a_fault_never_tells_a_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    told = f"{caught.value}{caught.value!r}{caught.value.faults!r}{caught.value.__context__!r}"
    assert PASSWORD not in told
    assert name in told


def test_settings_can_be_shown_and_logged_without_their_secrets() -> None:
    settings = load_settings(
        {
            "DATABASE_URL": f"postgresql://user:{PASSWORD}@host/database",
            "REDIS_URL": f"redis://:{PASSWORD}@host/0",
            "STRIPE_API_KEY": "sk_test_abcdef123456",
            "SMTP_URL": f"smtps://user:{PASSWORD}@host",
        }
    )
    told = f"{settings}{settings!r}{describe(settings)}"
    assert PASSWORD not in told
    assert "abcdef" not in told
    assert "postgresql://user:***@host/database" in told
    assert "sk_test_***" in told
    assert settings.needed("database_url") == f"postgresql://user:{PASSWORD}@host/database"


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6, max_size=30))
def test_no_password_of_a_url_is_shown_whatever_it_is(password: str) -> None:
    secret = f"<{password}>"
    settings = Settings(database_url=f"postgresql://user:{secret}@host/database")
    assert secret not in repr(settings)


def test_an_unknown_name_is_a_fault_with_the_one_that_was_meant() -> None:
    assert (
        "did you mean REFILL_INTAKE_BATCH_MAX?"
        in faults_of({"REFILL_INTAKE_BATCHMAX": "5"})["REFILL_INTAKE_BATCHMAX"].message
    )
    assert "did you mean REFILL_LOG_LEVEL?" in faults_of({"REFILL_LOGLEVEL": "info"})["REFILL_LOGLEVEL"].message
    assert "`refill settings`" in faults_of({"REFILL_ZZZZ": "1"})["REFILL_ZZZZ"].message


def test_names_of_others_are_left_alone() -> None:
    assert load_settings({"PATH": "/usr/bin", "HOME": "x", "STRIPE_OTHER": "y"}) == load_settings({})


def test_what_a_process_needs_and_has_not_is_a_fault_that_says_how_to_get_it() -> None:
    faults = faults_of({}, require=("database_url", "redis_url", "broker_url", "stripe_api_key", "mail"))
    assert faults.keys() == {"DATABASE_URL", "REDIS_URL", "REFILL_BROKER_URL", "STRIPE_API_KEY", "SMTP_URL"}
    for fault in faults.values():
        assert "`refill up`" in fault.message
        assert "set" in fault.message


def test_a_wrong_value_of_what_is_needed_is_one_fault_and_not_two() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"DATABASE_URL": "x"}, require=("database_url",))
    assert [fault.name for fault in caught.value.faults] == ["DATABASE_URL"]


def test_mail_needs_a_server_or_a_directory() -> None:
    load_settings({"MAIL_DIR": "mail"}, require=("mail",))
    load_settings({"SMTP_URL": "smtp://localhost:25"}, require=("mail",))


def test_the_broker_is_redis_where_it_is_not_another() -> None:
    assert load_settings({"REDIS_URL": "redis://h/0"}, require=("broker_url",)).broker_url == "redis://h/0"
    both = load_settings({"REDIS_URL": "redis://h/0", "REFILL_BROKER_URL": "amqp://h"})
    assert both.broker_url == "amqp://h"


def test_needed_raises_where_there_is_nothing() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL is needed"):
        Settings().needed("database_url")


def test_an_empty_value_is_a_missing_one() -> None:
    assert load_settings({"REFILL_WORKER_THREADS": "", "DATABASE_URL": ""}) == load_settings({})


def test_the_file_gives_what_the_environment_does_not(empty_directory: Path) -> None:
    path = write_file(
        empty_directory / "data", "DATABASE_URL=postgresql://file/a${b}\nREFILL_WORKER_THREADS=3\nOTHER=x\n"
    )
    settings = load_settings({"REFILL_DATA": "data", "REFILL_WORKER_THREADS": "5"})
    assert settings.database_url == "postgresql://file/a${b}"
    assert settings.worker_threads == 5
    sources = {row.name: row.source for row in describe(settings)}
    assert Path(sources["DATABASE_URL"]).resolve() == path.resolve()
    assert sources["REFILL_WORKER_THREADS"] == "environment"
    assert sources["REFILL_LOG_LEVEL"] == "default"


def test_the_file_of_the_default_directory_is_found(empty_directory: Path) -> None:
    write_file(empty_directory / ".refill", "REDIS_URL=redis://file/0\n")
    assert load_settings({}, require=("redis_url",)).redis_url == "redis://file/0"


def test_a_wrong_value_or_name_in_the_file_is_a_fault_too(empty_directory: Path) -> None:
    write_file(empty_directory / ".refill", "REFILL_WORKER_THREADS=none\nREFILL_WORKERTHREADS=4\n")
    assert faults_of({}).keys() == {"REFILL_WORKER_THREADS", "REFILL_WORKERTHREADS"}


def test_a_file_that_is_no_text_is_a_fault(empty_directory: Path) -> None:
    path = write_file(empty_directory / ".refill", "")
    path.write_bytes(b"DATABASE_URL=\xff\xfe\n")
    (fault,) = faults_of({}).values()
    assert "cannot be read" in fault.message


@pytest.mark.parametrize(
    ("in_file", "environ", "dropped"),
    [
        ("STRIPE_API_BASE=http://127.0.0.1:1", {"STRIPE_API_KEY": "sk_live_abc"}, "stripe_api_base"),
        ("MAIL_DIR=mail", {"SMTP_URL": "smtp://h"}, "mail_dir"),
        ("SMTP_URL=smtp://h", {"MAIL_DIR": "mail"}, "smtp_url"),
        ("REFILL_BROKER_URL=redis://file", {"REDIS_URL": "redis://h"}, "broker_url"),
    ],
)
def test_the_environment_does_not_meet_the_other_half_of_a_pair_in_the_file(
    empty_directory: Path, in_file: str, environ: dict[str, str], dropped: str
) -> None:
    alone = load_settings(environ)
    write_file(empty_directory / ".refill", in_file + "\n")
    assert getattr(load_settings(environ), dropped) == getattr(alone, dropped)
    assert getattr(load_settings({}), dropped) != getattr(alone, dropped)


def test_a_live_key_goes_over_tls_only() -> None:
    clear = {"STRIPE_API_BASE": "http://127.0.0.1:12111"}
    load_settings(clear | {"STRIPE_API_KEY": "sk_test_abc"})
    assert "live key" in faults_of(clear | {"STRIPE_API_KEY": "sk_live_abc"})["STRIPE_API_BASE"].message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://user@host:5432,other:5433/database?target_session_attrs=read-write"),
        ("DATABASE_URL", "postgresql:///database?host=/var/run/postgresql"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "rediss://user:p%40ss@host:6380/1"),
        ("REFILL_BROKER_URL", "amqp://guest:guest@host:5672/"),
        ("STRIPE_API_BASE", "http://[::1]:8080"),
        ("STRIPE_API_BASE", "https://proxy.example.com/stripe"),
        ("STRIPE_API_KEY", "rk_live_1234"),
        ("SMTP_URL", "smtps://user:pass@host:465"),
        ("MAIL_FROM", "Refill <refill@example.com>"),
        ("REFILL_LOG_LEVEL", "WARNING"),
        ("REFILL_CARD_REATTEMPTS_30D_MAX", "1"),
    ],
)
def test_right_values_are_taken(name: str, value: str) -> None:
    load_settings({name: value})


def test_settings_do_not_change_and_do_not_read_the_environment_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFILL_WORKER_THREADS", "5")
    settings = Settings(redis_port=7)
    assert (settings.worker_threads, settings.redis_port) == (8, 7)
    assert load_settings().worker_threads == 5
    with pytest.raises(ValidationError):
        settings.redis_port = 8  # type: ignore[misc]  # the refusal under test
