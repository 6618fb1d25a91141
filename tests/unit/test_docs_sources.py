"""docs/sources.md against the code: each database, its extra, its versions, its rights, and what was tried."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from fix_postgres import BINARIES
from floodmark.config import Limits, Secret
from floodmark.errors import ConfigError
from floodmark.source.mysql import diagnosis, moment
from floodmark.source.postgres import versions
from floodmark.source.sql import engine
from floodmark.source.sql.dialect import Dialect
from floodmark.source.sql.facts import SqlOptions
from floodmark.source.sql.opening import dialect_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/sources.md").read_text(encoding="utf-8")
OVERVIEW = PAGE.split("| database |")[1].split("\n\n")[0]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def section(title: str) -> str:
    return re.split(rf"^## {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]


def overview_rows() -> dict[str, list[str]]:
    """The cells of the first table, by the database's name."""
    lines = [line.strip("| ").split(" | ") for line in OVERVIEW.splitlines()[2:]]
    return {re.findall(r"\[([^\]]+)\]", cells[0])[0]: cells for cells in lines}


def test_every_database_has_a_section_and_every_section_a_row() -> None:
    titles = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert ["Other databases" if name == "others" else name for name in overview_rows()] == titles


@pytest.mark.parametrize("backend", sorted(engine._EXTRAS))
def test_every_extra_is_named_where_its_url_is(backend: str) -> None:
    extra = engine._EXTRAS[backend]
    (cells,) = [cells for cells in overview_rows().values() if re.search(rf"`{backend}[+:]", cells[1].split(",")[0])]
    assert cells[2] == f"`{extra}`" and extra in EXTRAS
    name = re.findall(r"\[([^\]]+)\]", cells[0])[0]
    assert f"pip install '.[{extra}]'" in section(name) or name == "MySQL"


@pytest.mark.parametrize("url", re.findall(r"FLOODMARK_SOURCE='?([^\s']+)", PAGE))
def test_every_url_of_the_page_is_read(url: str) -> None:
    """The dots are a password, or a path. A dialect of its own is meant for each database that the page describes."""
    if url.startswith("postgresql"):
        return
    try:
        found = dialect_for(SqlOptions(Secret(url.replace("…", "secret")), Limits()))
    except ConfigError as error:  # an extra that is not installed here
        assert error.hint is not None and ".[" in error.hint
        return
    assert type(found) is not Dialect


def test_the_versions_are_those_of_the_code() -> None:
    assert f"Version {versions.SUPPORTED_FROM // 10000} or later" in section("PostgreSQL")
    assert f"to {versions.TESTED_UP_TO}" in overview_rows()["PostgreSQL"][5]
    assert max(BINARIES) <= versions.TESTED_UP_TO, "tests ran on a newer server: raise TESTED_UP_TO"
    tested = ".".join(map(str, diagnosis.TESTED_UP_TO))
    assert overview_rows()["MariaDB"][5] == tested and f"MariaDB {tested}" in section("MariaDB")
    for maria, title in ((True, "MariaDB"), (False, "MySQL")):
        assert f"Version {'.'.join(map(str, moment._OLDEST[maria]))} or later" in section(title)


def test_every_right_that_helps_is_explained_and_granted() -> None:
    facts = diagnosis.ServerFacts("10.11.1-MariaDB", "", "u@%", 1, 0, 1, "SYSTEM", "UTC")
    explained = {
        line.split(" | ")[0].strip("| ") for line in section("MariaDB").split("| right |")[1].splitlines()[2:7]
    }
    assert {*facts.useful_rights, *replace(facts, log_bin=0).useful_rights} <= explained
    assert f"GRANT {', '.join(facts.useful_rights)} ON *.*" in section("MariaDB")
    assert f"GRANT {', '.join(replace(facts, version='8.4').useful_rights)} ON *.*" in section("MySQL")


@pytest.mark.parametrize("name", [name for name, cells in overview_rows().items() if cells[5] == "no"])
def test_what_was_never_tried_says_so(name: str) -> None:
    assert "**Not tried" in section({"others": "Other databases"}.get(name, name))
