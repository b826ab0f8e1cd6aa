"""Migrations: once each, all or nothing, and the same from empty as from any release before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from jobs.errors import DatabaseTooOld, DatabaseUnavailable, SchemaOutdated
from jobs.ledger.database import check_schema, connect, migrate, sql_files
from tests.ledger.books import DAY, T0, Books
from tests.support.databases import temporary_database
from tests.support.postgres_greeting import OldPostgres
from tests.support.waiting import eventually

# What a schema is made of, as text: every column, constraint, index, trigger, function, view and grant.
DESCRIPTION: LiteralString = """
    select 'column', c.oid::regclass || '.' || attname,
           format_type(atttypid, atttypmod) || ' ' || attnotnull || ' ' || coalesce(pg_get_expr(adbin, adrelid), '')
    from pg_class c join pg_attribute a on a.attrelid = c.oid and attnum > 0 and not attisdropped
    left join pg_attrdef on adrelid = c.oid and adnum = attnum
    where relnamespace = 'refill'::regnamespace and relkind in ('r', 'p', 'v')
    union all select 'partition', oid::regclass::text, pg_get_expr(relpartbound, oid)
    from pg_class where relnamespace = 'refill'::regnamespace and relispartition
    union all select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    from pg_constraint where connamespace = 'refill'::regnamespace
    union all select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    from pg_index join pg_class c on c.oid = indexrelid where relnamespace = 'refill'::regnamespace
    union all select 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(t.oid)
    from pg_trigger t join pg_class c on c.oid = tgrelid
    where relnamespace = 'refill'::regnamespace and not tgisinternal
    union all select 'function', p.oid::regprocedure::text,
           md5(prosrc) || prosecdef || coalesce(proconfig::text, '') || coalesce(proacl::text, '')
    from pg_proc p where pronamespace = 'refill'::regnamespace
    union all select 'grant', oid::regclass::text, coalesce(relacl::text, '')
    from pg_class where relnamespace = 'refill'::regnamespace
    union all select 'view', oid::regclass::text, pg_get_viewdef(oid) from pg_class
    where relnamespace = 'refill'::regnamespace and relkind = 'v'
    order by 1, 2
"""

_WAITING = "select pid from pg_stat_activity where application_name = 'refill migrate' and wait_event_type = 'Lock'"


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    with temporary_database(postgres_url) as url:
        yield url


def _description(url: str) -> list[tuple[str, str, str]]:
    with connect(url) as connection:
        return [(kind, name, text) for kind, name, text in connection.execute(DESCRIPTION)]


def _has_schema(url: str) -> bool:
    with connect(url) as connection:
        return connection.execute("select from pg_namespace where nspname = 'refill'").rowcount > 0


@pytest.mark.parametrize("release", range(len(sql_files("schema"))))
def test_a_schema_brought_up_from_any_release_is_the_fresh_one(
    empty_database: str, database: str, release: int
) -> None:
    steps = sql_files("schema")
    with connect(empty_database) as connection:
        connection.execute(
            "create schema refill; create table refill.migration (name text primary key, digest text not null,"
            " applied_at timestamptz not null default now())"
        )
        for step in steps[:release]:
            connection.execute(step.text.encode())
            connection.execute("insert into refill.migration values (%s, %s)", (step.name, step.digest))
    assert migrate(empty_database) == [step.name for step in steps[release:]]
    assert _description(empty_database) == _description(database)


def test_migrating_again_changes_nothing_and_says_so(database: str) -> None:
    before = _description(database)
    assert migrate(database) == []
    assert _description(database) == before


def test_migrating_keeps_what_is_in_the_books(broken_books: Books, database: str) -> None:
    broken_books.open("a")
    broken_books.buy("a", 100)
    broken_books.spend("a", 30)
    migrate(database)
    assert broken_books.balance("a") == 70
    assert broken_books.audit() == []


def test_a_migration_killed_in_the_middle_leaves_nothing(empty_database: str, postgres_url: str) -> None:
    with (
        connect(empty_database) as holder,
        connect(postgres_url) as killer,
        ThreadPoolExecutor(1) as pool,
        holder.transaction(),
    ):
        # Some tables are made already when the first foreign key needs its triggers.
        holder.execute("lock table pg_trigger in share mode")
        migrating = pool.submit(migrate, empty_database)
        [(pid,)] = eventually(lambda: killer.execute(_WAITING).fetchall())
        killer.execute("select pg_terminate_backend(%s)", (pid,))
        with pytest.raises(psycopg.OperationalError):
            migrating.result(timeout=30)
    assert not _has_schema(empty_database)
    assert migrate(empty_database) == [step.name for step in sql_files("schema")]


def test_a_migration_that_fails_near_its_end_leaves_nothing(empty_database: str) -> None:
    with connect(empty_database) as connection:
        connection.execute(
            "create function no_views() returns event_trigger language plpgsql as $$ begin raise 'no views'; end $$;"
            "create event trigger no_views on ddl_command_start when tag in ('CREATE VIEW') execute function no_views()"
        )
    with pytest.raises(psycopg.errors.RaiseException, match="no views"):
        migrate(empty_database)
    assert not _has_schema(empty_database)


def test_two_migrations_at_once_apply_each_step_once(empty_database: str) -> None:
    start = threading.Barrier(4)

    def run() -> list[str]:
        start.wait(timeout=30)
        return migrate(empty_database)

    with ThreadPoolExecutor(4) as pool:
        applied = [answer.result(timeout=60) for answer in [pool.submit(run) for _ in range(4)]]
    assert sorted(applied) == [[], [], [], [step.name for step in sql_files("schema")]]


def test_a_migration_that_was_edited_is_refused(database: str) -> None:
    with connect(database) as connection:
        connection.execute("update refill.migration set digest = 'other' where name = '0001_ledger'")
    with pytest.raises(SchemaOutdated, match="0001_ledger") as refusal:
        migrate(database)
    assert (refusal.value.code, refusal.value.exit_status) == ("schema_outdated", 2)


def test_a_database_that_lacks_a_migration_is_named(database: str, empty_database: str) -> None:
    with connect(database) as connection:
        check_schema(connection)
        connection.execute("delete from refill.migration where name = '0002_recharge'")
        with pytest.raises(SchemaOutdated, match="lacks 0002_recharge"):
            check_schema(connection)
    with connect(empty_database) as connection, pytest.raises(SchemaOutdated, match="lacks 0001_ledger"):
        check_schema(connection)


@pytest.fixture
def owned_database(empty_database: str, postgres_url: str) -> Iterator[str]:
    """The URL of an empty database for its owner, who is no superuser but may make roles."""
    name = urlsplit(empty_database).path.removeprefix("/")
    with psycopg.connect(postgres_url, autocommit=True) as superuser:
        superuser.execute(f"create role owner_of_{name} login createrole password 'secret'".encode())
        superuser.execute(f"alter database {name} owner to owner_of_{name}".encode())
        yield make_conninfo(empty_database, user=f"owner_of_{name}", password="secret")
        superuser.execute(f"alter database {name} owner to current_user".encode())
        with psycopg.connect(empty_database, autocommit=True) as within:
            within.execute(f"drop owned by owner_of_{name} cascade".encode())
        superuser.execute(f"drop role owner_of_{name}".encode())


def test_who_owns_a_database_needs_not_be_a_superuser(owned_database: str) -> None:
    migrate(owned_database)
    with connect(owned_database) as connection:
        books = Books(connection)
        books.open("a", alert_below=50)
        books.grant("a", 100, expires_at=T0 + DAY)
        assert books.spend("a", 60).balance == 40
        assert books.expire("a", now=T0 + DAY) == (1, 40)
        assert books.events("a")[-1] == "balance.depleted"


def test_only_a_database_that_was_made_as_one_is_a_sandbox(empty_database: str, database: str) -> None:
    migrate(empty_database)
    for url, is_sandbox in ((empty_database, False), (database, True)):
        with connect(url) as connection:
            assert connection.execute("select is_sandbox from refill.installation").fetchall() == [(is_sandbox,)]


def test_a_server_older_than_15_is_refused_by_its_version() -> None:
    with OldPostgres("14.9") as url, pytest.raises(DatabaseTooOld, match="PostgreSQL 14") as refusal, connect(url):
        pass
    assert (refusal.value.code, refusal.value.exit_status) == ("database_too_old", 2)


def test_a_server_of_15_is_not_refused_for_its_version() -> None:
    with OldPostgres("15.0") as url, connect(url) as connection:
        assert connection.info.server_version == 150000


def test_a_port_where_nothing_listens_is_a_database_that_is_not_available() -> None:
    with pytest.raises(DatabaseUnavailable) as refusal, connect("postgresql://postgres@127.0.0.1:1/refill"):
        pass
    assert (refusal.value.code, refusal.value.exit_status) == ("database_unavailable", 1)
