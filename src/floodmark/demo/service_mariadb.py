"""The demo's service on MariaDB: the same cases in MariaDB's types, in one database with eleven tables.

As on PostgreSQL, set-based SQL makes the rows from plain arithmetic. MariaDB's sequence engine gives the numbers.
"""

from __future__ import annotations

import importlib.util
from string import Template
from types import TracebackType
from typing import Self

from floodmark.config import ColumnRule, TableRule
from floodmark.demo.base import DATABASE, DayChange
from floodmark.demo.mariadb import MariaDBServer
from floodmark.errors import ConfigError
from floodmark.wording import install_hint

_TABLES = """
CREATE TABLE prison (
    code char(3) PRIMARY KEY, name varchar(60) NOT NULL, category enum('A', 'B', 'C', 'D', 'YOI') NOT NULL,
    capacity smallint unsigned NOT NULL, wings set('A', 'B', 'C', 'D') NOT NULL, opened_on date);
CREATE TABLE person (
    id char(32) PRIMARY KEY, number char(7) NOT NULL UNIQUE, given_name varchar(40) NOT NULL,
    family_name varchar(40) NOT NULL, date_of_birth date NOT NULL, national_insurance_number char(9),
    home_address varchar(200), updated_at timestamp NOT NULL);
CREATE TABLE staff_member (
    id int PRIMARY KEY, username varchar(30) NOT NULL UNIQUE, prison_code char(3) NOT NULL, active bool NOT NULL,
    last_seen_at datetime(3));
CREATE TABLE custody_period (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY, person_id char(32) NOT NULL, prison_code char(3) NOT NULL,
    status enum('remand', 'sentenced', 'recall', 'released') NOT NULL, began_on date NOT NULL, ended_on date);
CREATE TABLE cell_movement (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY, person_id char(32) NOT NULL, prison_code char(3) NOT NULL,
    cell varchar(10) NOT NULL,
    reason enum('reception', 'cell_change', 'court', 'healthcare', 'transfer', 'release') NOT NULL,
    moved_at datetime NOT NULL, recorded_by int);
CREATE TABLE case_note (
    id char(32) PRIMARY KEY, person_id char(32) NOT NULL, author_id int NOT NULL, kind varchar(20) NOT NULL,
    note text NOT NULL, written_at timestamp NOT NULL);
CREATE TABLE alert (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY, person_id char(32) NOT NULL, code char(4) NOT NULL,
    active bool NOT NULL, details json NOT NULL, raised_at timestamp NOT NULL);
CREATE TABLE visit (
    id char(32) PRIMARY KEY, person_id char(32) NOT NULL, prison_code char(3) NOT NULL, visitors json NOT NULL,
    starts_at datetime NOT NULL, length time NOT NULL);
CREATE TABLE money_transaction (
    id bigint unsigned AUTO_INCREMENT PRIMARY KEY, person_id char(32) NOT NULL, direction enum('in', 'out') NOT NULL,
    amount decimal(10, 2) NOT NULL, reference varchar(40), booked_at timestamp NOT NULL);
CREATE TABLE audit_event (
    id bigint unsigned PRIMARY KEY, happened_at datetime(6) NOT NULL, who int NOT NULL, what varchar(20) NOT NULL,
    detail json NOT NULL);
CREATE TABLE hearing (
    id char(32) PRIMARY KEY, person_id char(32) NOT NULL, court varchar(40) NOT NULL, listed_for datetime NOT NULL,
    outcome varchar(20));
"""

_ROWS = """
INSERT INTO prison
SELECT concat('P', lpad(seq, 2, '0')), concat('HMP ', elt(seq, 'Ashmere', 'Brackfield', 'Coldwater', 'Dunmoor',
       'Elmstead', 'Fernhollow', 'Greyfriars', 'Harrowgate', 'Ironbridge', 'Kestrel Hill', 'Larkhurst', 'Millbrook')),
       1 + seq % 5, 300 + seq * 37, 'A,B,C', date '1850-03-01' + INTERVAL seq * 3001 DAY
FROM seq_1_to_12;

INSERT INTO staff_member
SELECT seq, concat('user', seq), concat('P', lpad(1 + seq % 12, 2, '0')), seq % 9 > 0,
       timestamp '2026-10-30 08:00:00' - INTERVAL seq * 7 MINUTE
FROM seq_1_to_200;

INSERT INTO person
SELECT md5(concat('person ', seq)),
       concat(char(65 + seq DIV 10000 % 26), lpad(seq % 10000, 4, '0'), char(65 + seq % 26), char(65 + seq DIV 7 % 26)),
       elt(1 + seq % 10, 'Arden', 'Bryn', 'Corin', 'Dara', 'Eilis', 'Farrow', 'Gwill', 'Hollis', 'Isold', 'Jarek'),
       elt(1 + seq DIV 3 % 11, 'Applegarth', 'Brindlewood', 'Crookshank', 'Dovecote', 'Eddlestone', 'Fairweather',
           'Gorseley', 'Hobbleton', 'Inglebank', 'Jessamine', 'Kettlewick'),
       date '1950-01-01' + INTERVAL seq * 7919 % 20000 DAY,
       concat('QQ', lpad(seq * 104729 % 1000000, 6, '0'), char(65 + seq % 4)), concat(seq % 300, ' Invented Lane'),
       timestamp '2026-10-01 00:00:00' + INTERVAL seq * 3 MINUTE
FROM seq_1_to_$people;

INSERT INTO custody_period (person_id, prison_code, status, began_on, ended_on)
SELECT md5(concat('person ', seq)), concat('P', lpad(1 + seq % 12, 2, '0')), 1 + seq % 4,
       date '2024-01-01' + INTERVAL seq % 700 DAY,
       CASE WHEN seq % 4 = 3 THEN date '2026-06-01' + INTERVAL seq % 100 DAY END
FROM seq_1_to_$people;

INSERT INTO cell_movement (person_id, prison_code, cell, reason, moved_at, recorded_by)
SELECT md5(concat('person ', 1 + seq * 31 % $people)), concat('P', lpad(1 + seq % 12, 2, '0')),
       concat(char(65 + seq % 3), '-', 1 + seq % 4, '-', lpad(seq % 60, 3, '0')), 1 + seq * 13 % 6,
       timestamp '2024-01-01 00:00:00' + INTERVAL seq * 6 MINUTE, 1 + seq % 200
FROM seq_1_to_$movements;

INSERT INTO case_note
SELECT md5(concat('note ', seq)), md5(concat('person ', 1 + seq * 17 % $people)), 1 + seq % 200,
       elt(1 + seq % 4, 'keyworker', 'observation', 'contact', 'education'),
       concat('Spoke with the person about ', elt(1 + seq % 5, 'work in the kitchen',
              'a course:\\n"Bricklaying", level 1', 'family contact', 'a move to another wing', 'their next hearing'),
              '. Follow-up no. ', seq, '.'),
       timestamp '2026-01-01 00:00:00' + INTERVAL seq * 11 MINUTE
FROM seq_1_to_$notes;

INSERT INTO alert (person_id, code, active, details, raised_at)
SELECT md5(concat('person ', 1 + seq * 2 % $people)), elt(1 + seq % 4, 'ACCT', 'GANG', 'MED', 'VULN'), seq % 3 > 0,
       json_object('level', seq % 5, 'review', json_array('2026-11-01', '2026-12-01')),
       timestamp '2026-03-01 02:00:00' + INTERVAL seq HOUR
FROM seq_1_to_$alerts;

INSERT INTO visit
SELECT md5(concat('visit ', seq)), md5(concat('person ', 1 + seq * 5 % $people)),
       concat('P', lpad(1 + seq % 12, 2, '0')), json_array(json_object('relation', 'sibling', 'adult', true)),
       timestamp '2026-09-01 13:30:00' + INTERVAL seq % 60 DAY, sec_to_time(2700 + seq % 2 * 3600)
FROM seq_1_to_$visits;

INSERT INTO money_transaction (person_id, direction, amount, reference, booked_at)
SELECT md5(concat('person ', 1 + seq * 3 % $people)), if(seq % 3 = 0, 'in', 'out'), seq * 37 % 5000 / 100,
       if(seq % 3 > 0, concat('canteen week ', seq % 52), NULL),
       timestamp '2026-02-01 00:00:00' + INTERVAL seq * 9 MINUTE
FROM seq_1_to_$payments;

INSERT INTO audit_event
SELECT seq, timestamp '2026-08-01 00:00:00' + INTERVAL seq * 2 MINUTE, 1 + seq % 200,
       elt(1 + seq % 4, 'person.read', 'person.search', 'note.create', 'alert.read'),
       json_object('path', concat('/person/', seq % $people), 'ms', seq % 90)
FROM seq_1_to_$events;

INSERT INTO hearing
SELECT md5(concat('hearing ', seq)), md5(concat('person ', 1 + seq % $people)),
       elt(1 + seq % 4, 'Aldermoor Crown Court', 'Birchcombe Magistrates'' Court', 'Castleby Crown Court', 'Deepdale'),
       timestamp '2026-09-01 10:00:00' + INTERVAL seq % 90 DAY,
       elt(1 + seq % 4, 'adjourned', 'convicted', 'acquitted', NULL)
FROM seq_1_to_$people;
"""

_KEYS = """
ALTER TABLE custody_period ADD FOREIGN KEY (person_id) REFERENCES person (id);
ALTER TABLE cell_movement ADD FOREIGN KEY (person_id) REFERENCES person (id);
ALTER TABLE case_note ADD FOREIGN KEY (person_id) REFERENCES person (id);
ALTER TABLE alert ADD FOREIGN KEY (person_id) REFERENCES person (id);
ALTER TABLE hearing ADD FOREIGN KEY (person_id) REFERENCES person (id);
"""


class MariaDBService:
    """The service on a private MariaDB server of this machine's install."""

    product = "MariaDB"
    rules = {  # noqa: RUF012 - never changed
        f"{DATABASE}.person": TableRule(
            columns=ColumnRule(exclude=("home_address",), mask={"national_insurance_number": "hash"})
        )
    }
    quiet_day = (
        "The server computes a digest of each part of a table. It is the digest of the "
        "first day, so no row is read out, and the run writes only a new manifest."
    )
    changes = (
        DayChange(
            "three people get a corrected name",
            "UPDATE person SET given_name = concat(given_name, '-Rose'), updated_at = '2026-10-31 09:12:00'"
            " WHERE id IN (SELECT md5(concat('person ', seq)) FROM seq_11_to_13)",
        ),
        DayChange(
            "250 movements are recorded",
            "INSERT INTO cell_movement (person_id, prison_code, cell, reason, moved_at, recorded_by)"
            " SELECT md5(concat('person ', 1 + seq % (SELECT count(*) FROM person))), 'P03',"
            " concat('B-2-', lpad(seq % 60, 3, '0')), 'cell_change',"
            " timestamp '2026-10-31 00:00:00' + INTERVAL seq * 2 MINUTE, 1 + seq % 200 FROM seq_1_to_250",
        ),
        DayChange(
            "the audit trail grows by 40 events",
            "INSERT INTO audit_event SELECT last.id + seq, timestamp '2026-10-31 12:00:00' + INTERVAL seq MINUTE,"
            " seq, 'person.read', '{\"ms\": 12}' FROM seq_1_to_40, (SELECT max(id) AS id FROM audit_event) last",
        ),
        DayChange("one alert is deleted", "DELETE FROM alert WHERE id = 7"),
        DayChange("a migration adds a column to hearing", "ALTER TABLE hearing ADD COLUMN video_link varchar(200)"),
    )

    def __init__(self) -> None:
        if importlib.util.find_spec("pymysql") is None:
            why = "the extra mysql, with a driver, is not installed"
            raise ConfigError("can't run the demo", why=why, hint=install_hint("mysql"))
        self._server = MariaDBServer.create(log_bin=True)

    @property
    def url(self) -> str:
        return self._server.url(DATABASE)

    def fill(self, people: int) -> None:
        """Create the tables and their rows. `people` (at least 60) sets the scale."""
        rows = Template(_ROWS).substitute(
            people=people, movements=people * 40, notes=people * 6, alerts=people // 2, visits=people * 2,
            payments=people * 5, events=people * 10,
        )  # fmt: skip
        self._server.run(f"CREATE DATABASE {DATABASE}")
        for script in (_TABLES, rows, _KEYS):
            self._server.run(*(one for one in script.split(";\n") if one.strip()), database=DATABASE)

    def live_a_day(self) -> None:
        """Make the third day's changes."""
        self._server.run(*(deed.statement for deed in self.changes), database=DATABASE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
