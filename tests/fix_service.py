"""The database that random histories play on: tables of every kind of storage, partitions, and twins.

Twins are tables with the same columns and as many rows, in two schemas, each under the same names: whoever reads one
of them by the name of another notices no difference but in the rows' values.
"""

from __future__ import annotations

from floodmark.config import TableRule

SERVICE = """
    CREATE TYPE mood AS ENUM ('sad', 'glad', 'mad');
    CREATE TABLE event (id int PRIMARY KEY, n int, v text) WITH (fillfactor = 80);
    CREATE TABLE doc (id int, n int, v text, body text, meta json);
    ALTER TABLE doc ALTER body SET STORAGE EXTERNAL, ALTER meta SET STORAGE PLAIN;
    CREATE TABLE person (id int, n int, v text, m mood DEFAULT 'sad', born date DEFAULT '1970-01-01');
    CREATE TABLE visit (id int, n int, v text) PARTITION BY RANGE (id);
    CREATE TABLE visit_a PARTITION OF visit FOR VALUES FROM (0) TO (300);
    CREATE TABLE visit_b PARTITION OF visit FOR VALUES FROM (300) TO (600) PARTITION BY LIST (n);
    CREATE TABLE visit_b0 PARTITION OF visit_b FOR VALUES IN (0);
    CREATE TABLE visit_b1 PARTITION OF visit_b DEFAULT;
    CREATE TABLE visit_rest PARTITION OF visit DEFAULT;
    CREATE TABLE visit_z (id int, n int, v text);
    CREATE TABLE spare (v text, gone int, n int, id int); ALTER TABLE spare DROP gone;
    CREATE TABLE pointer (id int, what regclass);
    CREATE SCHEMA here; CREATE SCHEMA there; CREATE SCHEMA between;
    CREATE TABLE here.one (id int, n int, v text); CREATE TABLE here.two (LIKE here.one);
    CREATE TABLE there.one (LIKE here.one); CREATE TABLE there.two (LIKE here.one);
    INSERT INTO event SELECT i, 0, 'event ' || i || repeat('e', 150) FROM generate_series(1, 900) i;
    INSERT INTO doc SELECT i, 0, 'doc ' || i, repeat(md5(i::text), 80),
        (E'{"a":\\n' || i || ',"pad":"' || repeat('p', 500) || '"}')::json FROM generate_series(1, 150) i;
    INSERT INTO person SELECT i, 0, 'person ' || i || repeat('p', 100) FROM generate_series(1, 300) i;
    INSERT INTO visit SELECT i, i % 2, 'visit ' || i || repeat('v', 200) FROM generate_series(1, 700) i;
    INSERT INTO visit_z SELECT id, n, replace(v, 'visit', 'other') FROM visit_a;
    INSERT INTO spare (id, n, v) SELECT i, 0, 'spare ' || i FROM generate_series(900, 950) i;
    INSERT INTO pointer VALUES (1, 'spare'), (2, 'event');
    INSERT INTO here.one SELECT i, 0, 'here one ' || i FROM generate_series(1, 120) i;
    INSERT INTO here.two SELECT i, 0, 'here two ' || i FROM generate_series(1, 120) i;
    INSERT INTO there.one SELECT i, 0, 'there one ' || i FROM generate_series(1, 120) i;
    INSERT INTO there.two SELECT i, 0, 'there two ' || i FROM generate_series(1, 120) i;
    CREATE INDEX event_id ON event (id); CREATE INDEX doc_id ON doc (id); CREATE INDEX person_id ON person (id);
    CREATE INDEX visit_id ON visit (id); CREATE INDEX spare_id ON spare (id)
"""
TABLES = ("public.event", "public.doc", "public.person", "public.visit", "public.spare")
TWINS = ("here.one", "here.two", "there.one", "there.two")
# Twins under the names that they have for a while.
TWIN_NAMES = frozenset(
    f"{schema}.{name}" for schema in ("here", "there", "between", "away") for name in ("one", "two", "one_", "two_")
)
# A regclass prints the name that a table has when it is read. So no proof is possible of this one, whatever
# happens or does not, and while others rename tables it shows no one moment.
UNPROVABLE = frozenset({"public.pointer"})
# The rows of these tables that a run is to land.
RULES = {"public.doc": TableRule(where="n < 3")}
