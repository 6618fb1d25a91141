"""Labels of sources, and that no password gets past the check because SQLAlchemy reads a URL otherwise."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from floodmark.config import safe_label
from floodmark.config.urls import read_source
from floodmark.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("postgresql://u:pw@h:5432/db?sslmode=require", "postgresql://u@h:5432/db"),
        ("postgres://:pw@h/db", "postgres://h/db"),
        ("postgresql+psycopg://u:p/w?x@h/db", "postgresql+psycopg://u@h/db"),
        ("postgresql:///db?host=/run/pg&password=pw", "postgresql:///run/pg/db"),
        ("postgresql://u:pw@[::1]:5432/db", "postgresql://u@[::1]:5432/db"),
        ("sqlite:////data/file.db?mode=ro", "sqlite:////data/file.db"),
        ("postgresql://u:p@w@h/db", "(a URL that can't be read)"),
        ("postgresql://u/x:pw@h/db", "(a URL that can't be read)"),
        ("mysql://u:pw@h/db?password=pw", "mysql://u@h/db"),
        ("mssql+pyodbc://u:pw@h:1433/db?driver=x", "mssql+pyodbc://u@h:1433/db"),
        ("mysql://u:p@w@h/db", "(a URL that can't be read)"),
        ("host=h password=pw", "(a URL that can't be read)"),
    ],
)
def test_a_label_shows_driver_host_port_database_and_user_only(url: str, label: str) -> None:
    assert safe_label(url) == label


def holds_password(url: str) -> bool:
    """Whether SQLAlchemy would take a password from the URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return False
    return bool(parsed.password) or "password" in parsed.query


PIECES = [*"u:/@?=&[]%4p \n", "password"]


@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
@settings(max_examples=600, deadline=None)
@example("u:p@h/d")
@example("u:/@h")
@example("u/:p@h")
@example("u:\n@h/d")
@example("?password=p")
@example("@?password=p")
@example("u:p?x@h")
def test_what_sqlalchemy_takes_for_a_password_never_passes_as_none(rest: str) -> None:
    for scheme in ("postgresql", "mysql"):
        require_noticed(f"{scheme}://{rest}")


def require_noticed(url: str) -> None:
    try:
        read = read_source(url, "--source")
    except ConfigError:
        return
    assert read.has_password or not holds_password(url)


@pytest.mark.parametrize(
    "parameter", ["PWD", "access_token", "private_key", "aws_secret_access_key", "credentials_base64", "odbc_connect"]
)
def test_a_parameter_that_can_hold_a_secret_counts_as_a_password(parameter: str) -> None:
    assert read_source(f"nosuch://u@h/db?{parameter}=x", "--source").has_password
    assert not read_source("nosuch://u@h/db?charset=utf8&sslmode=require", "--source").has_password


@given(st.text(st.sampled_from(list("SECRET")), min_size=6, max_size=12), st.sampled_from(["u@h/d", "?:"]))
@settings(max_examples=100, deadline=None)
def test_a_label_never_holds_the_password(password: str, tail: str) -> None:
    assert password not in safe_label(f"postgresql://u:{password}@h/{tail}?password={password}")
