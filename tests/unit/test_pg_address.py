"""A source's URL means to us what it means to SQLAlchemy, whether or not SQLAlchemy is asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url

from floodmark.config import Secret
from floodmark.config.urls import read_source
from floodmark.errors import ConfigError
from floodmark.source.postgres.address import address


def theirs(url: str) -> dict[str, Any] | None:
    """What SQLAlchemy gives psycopg for a URL that the configuration accepts; None where it reads none."""
    try:
        read_source(url, "")
        return dict(PGDialect_psycopg().create_connect_args(make_url(url))[1])
    except Exception:  # whatever it raises, it does not read this
        return None


def ours(url: str) -> dict[str, Any]:
    arguments = address(Secret(url)).arguments
    port = arguments.get("port", "")  # SQLAlchemy has one port as a number; libpq takes text as well
    return {**arguments, "port": int(port)} if isinstance(port, str) and port.isdigit() else arguments


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pw@h:5432/db",
        "postgresql://u%40x:p%2Fw%25+@h/d%20b?sslmode=verify-full&application_name=a+b",
        "postgresql+psycopg://[::1]:5433/db",
        "postgres:///db?host=/run/pg",
        "postgresql://u@/db?host=a:1&host=b:2",
        "postgresql://u@/db?host=a,b&port=1,2",
        "postgresql://h/db?options=-c%20x%3D1&options=",
        "postgresql://",
    ],
)
def test_a_url_means_what_sqlalchemy_makes_of_it(url: str) -> None:
    expected = theirs(url.replace("postgres:", "postgresql:"))
    assert expected is not None
    assert ours(url) == expected


PIECES = [*"u:/@?=&%4p+,1 ", "host", "port", "sslmode", "%40", "%2F"]


@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
@settings(max_examples=600, deadline=None)
@example("u:p/w@h:1/d?a=1&a=2")
def test_no_url_means_something_else_than_to_sqlalchemy(rest: str) -> None:
    url = f"postgresql://{rest}"
    expected = theirs(url.strip())
    if expected is not None:
        assert ours(url) == expected


@pytest.mark.parametrize("rest", ["u@/db?host=a:1&port=SECRET", "[SECRET/db", "[::1]SECRET/db"])
def test_a_url_that_can_not_be_read_is_not_repeated(rest: str) -> None:
    with pytest.raises(ConfigError) as refused:
        address(Secret(f"postgresql://{rest}"))
    assert "SECRET" not in refused.value.sentence
