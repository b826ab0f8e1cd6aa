"""A fresh, migrated database for each test, copied from one that is migrated once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql


def database_url(server_url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def make_database(server_url: str, name: str, template: str = "template1") -> str:
    """Create a database as a copy of ``template`` and return its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return database_url(server_url, name)


@contextmanager
def temporary_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """The URL of a database that exists only inside the block, whoever is still connected at its end."""
    name = f"test_{uuid.uuid4().hex}"
    try:
        yield make_database(server_url, name, template)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
