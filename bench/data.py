"""The generated databases: one large table of a service's events, and many small tables. Set-based SQL only.

The same numbers give the same rows, so two runs of the benchmark measure the same work.
"""

from __future__ import annotations

import psycopg

LARGE, TALL, WIDE, MANY, FULL = "large", "tall", "wide", "many", "exported"
EVENTS = "event"
SMALL = "small"
SMALL_ROWS = 20

_EVENT = """
CREATE TABLE case_event (
    id bigint PRIMARY KEY, reference uuid NOT NULL, person_id bigint NOT NULL, happened_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL, kind text NOT NULL, note text, amount numeric(12, 2), active boolean NOT NULL,
    detail jsonb NOT NULL)"""

_EVENTS = """
INSERT INTO case_event
SELECT n, md5('reference ' || n)::uuid, n * 7919 % 100000, timestamptz '2023-01-01 08:00Z' + n * interval '37 seconds',
       timestamptz '2023-01-01 08:05Z' + n * interval '37 seconds' + n % 900 * interval '1 millisecond',
       (ARRAY['reception', 'transfer', 'court appearance', 'healthcare', 'release'])[1 + n * 13 % 5],
       CASE WHEN n % 11 > 0 THEN
           (ARRAY['Spoke with', 'Visited', 'Wrote to', 'Was called by'])[1 + n % 4] || ' the '
           || (ARRAY['family', 'keyworker', 'court', 'doctor', 'employer', 'solicitor'])[1 + n / 3 % 6] || ' about '
           || (ARRAY['a move to another wing', 'the next hearing', E'a course: "Bricklaying"\\nlevel 1', 'work'])
              [1 + n / 5 % 4] || '. Reference ' || left(md5('note ' || n), 8 + (n % 24)::int) || ', follow-up no. ' || n
           || '. Seen by staff member ' || n % 400 || ' on wing ' || chr(65 + (n % 7)::int) || '; risk unchanged.' END,
       (n * 37 % 1000000) / 100.0, n % 7 > 0,
       jsonb_build_object('level', n % 5, 'cell', 'B-2-' || n % 60, 'by', 'user' || n % 400, 'ok', n % 3 = 0,
                          'since', '2026-0' || 1 + n % 9)
FROM generate_series({first}::bigint, {last}::bigint) n"""

_TOUCH = """
UPDATE case_event SET note = 'Corrected on day ' || {day}, recorded_at = recorded_at + interval '1 second'
WHERE abs(hashint8extended(id, {day}) % 100) = 0"""

_SMALL = """
DO $$ BEGIN
    FOR t IN 1..{tables} LOOP
        EXECUTE format('CREATE TABLE small_%s (id integer PRIMARY KEY, name text, at timestamptz, amount numeric)', t);
        EXECUTE format('INSERT INTO small_%s SELECT n, ''name '' || n, timestamptz ''2026-01-01Z'' + n * interval
            ''1 hour'', n / 4.0 FROM generate_series(1, {rows}) n', t);
        IF t % 100 = 0 THEN COMMIT; END IF;
    END LOOP;
END $$"""


def make_large(connection: psycopg.Connection[tuple[object, ...]], rows: int, *, vacuum: bool = True) -> int:
    """Create the large table. Return its size in bytes, with TOAST and without indexes.

    A vacuum lists the small gaps in all blocks as free, and the next rows fill them. Without it, they go to the end.
    """
    connection.execute(_EVENT)
    append(connection, 1, rows)
    connection.execute("VACUUM (ANALYZE) case_event" if vacuum else "ANALYZE case_event")
    connection.execute("CHECKPOINT")
    return table_bytes(connection)


def append(connection: psycopg.Connection[tuple[object, ...]], first: int, last: int) -> int:
    return connection.execute(_EVENTS.format(first=first, last=last)).rowcount


def append_more(connection: psycopg.Connection[tuple[object, ...]], rows: int) -> int:
    """Append rows after the last one."""
    row = connection.execute("SELECT max(id) FROM case_event").fetchone()
    assert row is not None and isinstance(row[0], int)
    return append(connection, row[0] + 1, row[0] + rows)


def touch(connection: psycopg.Connection[tuple[object, ...]], day: int) -> int:
    """Update one row in a hundred, anywhere in the table. Each day updates other rows."""
    return connection.execute(_TOUCH.format(day=day)).rowcount


# The table of a full extraction: the columns of case_event, and two more types.
_FULL = """
CREATE TABLE event (LIKE case_event, score double precision NOT NULL, due date, PRIMARY KEY (id));
INSERT INTO event
SELECT e.*, sqrt(id), CASE WHEN id % 9 > 0 THEN date '2024-01-01' + (id % 700)::integer END FROM case_event e;
DROP TABLE case_event"""


def make_full(connection: psycopg.Connection[tuple[object, ...]], rows: int) -> int:
    """Create the table of a full extraction. Return its size in bytes, with TOAST and without indexes."""
    connection.execute(_EVENT)
    append(connection, 1, rows)
    connection.execute(_FULL)
    connection.execute("VACUUM (ANALYZE) event")
    connection.execute("CHECKPOINT")
    return table_bytes(connection, "event")


def columns(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[tuple[str, str], ...]:
    """Return the names and types of the columns of the table of a full extraction."""
    statement = "SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attrelid = 'event'::regclass"
    rows = connection.execute(f"{statement} AND attnum > 0 ORDER BY attnum").fetchall()
    return tuple((str(name), str(kind)) for name, kind in rows)


def table_bytes(connection: psycopg.Connection[tuple[object, ...]], name: str = "case_event") -> int:
    row = connection.execute("SELECT pg_table_size(%s::regclass)", (name,)).fetchone()
    assert row is not None and isinstance(row[0], int)
    return row[0]


def make_small(connection: psycopg.Connection[tuple[object, ...]], tables: int) -> None:
    connection.execute(_SMALL.format(tables=tables, rows=SMALL_ROWS))
    connection.execute("VACUUM (ANALYZE)")
    connection.execute("CHECKPOINT")


def make_tall(connection: psycopg.Connection[tuple[object, ...]], first: int, last: int) -> None:
    """Insert the narrow rows `first` to `last` into a table with many chunks."""
    connection.execute("CREATE TABLE IF NOT EXISTS tall (id bigint, name text)")
    connection.execute(f"INSERT INTO tall SELECT n, md5(n::text) FROM generate_series({first}, {last}) n")


def make_wide(connection: psycopg.Connection[tuple[object, ...]], rows: int, row_bytes: int) -> None:
    """Create rows of `row_bytes` bytes each. Compression halves them."""
    connection.execute("CREATE TABLE wide (id integer, document text)")
    for number in range(1, rows + 1):
        connection.execute(
            "INSERT INTO wide SELECT %s, string_agg(md5(n::text), '') FROM generate_series(1, %s) n",
            (number, row_bytes // 32),
        )


def count_small(tables: int) -> str:
    """Return one statement per small table: the cheapest possible check of each."""
    return "".join(f"SELECT count(*), min(age(xmin)) FROM small_{t};\n" for t in range(1, tables + 1))
