"""The journal's migrations: up and down between revisions, by our command and by Alembic's, and in every build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hatchling.builders.wheel import WheelBuilder
from test_journal import TRIGGERS, commands, definition, install, psql

from fix_command import Floodmark
from fix_postgres import PgDatabase
from floodmark.config import Secret
from floodmark.journal import migrate
from floodmark.journal.connection import JournalConnection
from floodmark.journal.status import read_status
from floodmark.source.postgres.address import address
from floodmark.source.postgres.journal_names import REVISION

ROOT = Path(__file__).parents[2]
LATER = '''
    """Add a column."""
    from alembic import op

    revision = "0002"
    down_revision = "0001"
    branch_labels = None
    depends_on = None


    def upgrade() -> None:
        op.execute("ALTER TABLE floodmark.journal_moment ADD COLUMN note text DEFAULT 'a:b %s'")


    def downgrade() -> None:
        op.execute("ALTER TABLE floodmark.journal_moment DROP COLUMN note")
    '''


def to_revision(database: PgDatabase, revision: str, *, down: bool = False) -> None:
    with migrate.engine_of(address(Secret(database.url))).connect() as schema:
        (migrate.downgrade if down else migrate.upgrade)(schema, revision)
        schema.commit()


def tables(database: PgDatabase) -> list[str]:
    rows = database.query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'floodmark'::regnamespace AND relkind = 'r' ORDER BY 1"
    )
    return [name for (name,) in rows]


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations with one more revision."""
    folder = tmp_path / "later 100%" / "migrations"
    shutil.copytree(ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions/0002_note.py").write_text(dedent(LATER))
    monkeypatch.setattr(migrate, "folder", lambda: folder)
    return folder


def test_up_down_and_up_again_is_the_same(pg_any: PgDatabase) -> None:
    install(pg_any)
    first = definition(pg_any)
    to_revision(pg_any, "base", down=True)
    assert tables(pg_any) == ["alembic_version"]
    assert pg_any.query("SELECT FROM pg_proc WHERE pronamespace = 'floodmark'::regnamespace") == []
    install(pg_any)
    assert definition(pg_any) == first


def test_between_two_revisions_no_row_and_no_trigger_is_lost(pg: PgDatabase, later: Path, tmp_path: Path) -> None:
    assert migrate.revisions() == ["0001", "0002"]
    to_revision(pg, "0001")
    first = definition(pg)
    pg.execute("CREATE TABLE a (id int)")
    commands(pg, tmp_path)("journal", "enable", "a")
    pg.execute("INSERT INTO a VALUES (1)")
    kept = pg.query("SELECT * FROM floodmark.journal"), pg.query(TRIGGERS)
    to_revision(pg, "head")
    assert pg.value("SELECT version_num FROM floodmark.alembic_version") == "0002"
    assert pg.query("SELECT note FROM floodmark.journal_moment") == [("a:b %s",)]
    assert (pg.query("SELECT * FROM floodmark.journal"), pg.query(TRIGGERS)) == kept
    to_revision(pg, "0001", down=True)
    assert definition(pg) == first
    assert (pg.query("SELECT * FROM floodmark.journal"), pg.query(TRIGGERS)) == kept


def test_the_sql_from_one_revision_to_the_next(pg: PgDatabase, later: Path) -> None:
    install_sql = migrate.upgrade_sql("0001")
    assert "CREATE TABLE" not in install_sql and "0002" in install_sql
    to_revision(pg, "0001")
    first = definition(pg)
    psql(pg, install_sql)
    assert pg.value("SELECT version_num FROM floodmark.alembic_version") == "0002"
    psql(pg, migrate.downgrade_sql("0002", "0001"))
    assert definition(pg) == first
    psql(pg, migrate.downgrade_sql("0001"))
    assert tables(pg) == ["alembic_version"]


def test_a_failed_migration_leaves_what_was_there(pg: PgDatabase, later: Path) -> None:
    to_revision(pg, "0001")
    first = definition(pg)
    broken = later / "versions/0002_note.py"
    broken.write_text(broken.read_text().replace("ADD COLUMN note", "ADD COLUMN at"))
    with pytest.raises(Exception, match="already exists"):
        to_revision(pg, "head")
    assert definition(pg) == first


def test_alembics_own_command_line_uses_our_connection(pg: PgDatabase, tmp_path: Path) -> None:
    environment = {**os.environ, "FLOODMARK_SOURCE": pg.url}
    command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "migrations/alembic.ini"), "upgrade", "head"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_status(address(Secret(pg.url))).revision == REVISION
    with JournalConnection(address(Secret(pg.url))):
        pass


def test_every_build_has_the_migrations(tmp_path: Path) -> None:
    """The wheel has them in the package, where `folder` looks first. A checkout has them at its top."""
    builder = WheelBuilder(str(ROOT))
    files = {file.distribution_path for file in builder.recurse_included_files()}
    expected = {path.relative_to(ROOT) for path in (ROOT / "migrations").rglob("*") if path.suffix in (".py", ".mako")}
    assert expected and {f"floodmark/{path}" for path in expected} <= files
    assert not [name for name in files if "__pycache__" in name]
    assert migrate.folder() == ROOT / "migrations"


def test_without_alembic_the_extra_is_named_and_the_rest_works(pg: PgDatabase, tmp_path: Path) -> None:
    install(pg)
    pg.execute("CREATE TABLE a (id int)")
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text("import sys\nsys.modules['alembic'] = None\n")
    job = Floodmark(tmp_path / "job", {"FLOODMARK_SOURCE": pg.url, "PYTHONPATH": str(blocked)})
    job.warm = False
    for arguments in (["install"], ["install", "--sql"], ["remove"], ["remove", "--sql"]):
        assert "pip install '.[journal]'" in job("journal", *arguments, code=10).err
    job("journal", "enable", "a")
    assert "public.a" in job("journal", "status").out
    job("journal", "trim")
    job("journal", "disable", "a")
