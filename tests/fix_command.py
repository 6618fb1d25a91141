"""The command line as its users have it: a process of its own, an environment of its own, two streams, an exit code.

A command that is only run to its end is a fork of a warm process (`fix_warm`); one that is started is a real process.
No command may print a traceback, a canary (see fix_canaries) or a secret of its environment: each is looked at.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
import psycopg
from isal import igzip
from msgspec import Struct

from fix_canaries import require_none
from fix_child import Child
from fix_documents import require_documented
from fix_postgres import PgDatabase
from fix_storage import S3Bucket
from fix_warm import needs_a_start, warm_process
from floodmark.state.manifest import Head, Manifest, decode

CHUNKS = "chunk_size: 64KiB\n"


class Done(Struct, frozen=True):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        """stdout, which must be one JSON document."""
        return msgspec.json.decode(self.out.encode())

    @property
    def manifest(self) -> Manifest:
        return decode(Manifest, self.out.encode(), "stdout")

    @property
    def outcomes(self) -> dict[str, tuple[str, str]]:
        """Status and reason of each table in the manifest on stdout."""
        return {entry.table.label: (entry.status, entry.reason.code) for entry in self.manifest.tables}


def looked_at(code: int, out: bytes, err: bytes) -> Done:
    """Return what a command left behind, if it did nothing that no command may do."""
    done = Done(code, out.decode(), err.decode())
    assert "Traceback" not in done.said and "internal error" not in done.said, done.said
    require_none(done.said)
    return done


class Floodmark:
    """Runs `floodmark` in a folder with an environment of its own. Without `warm` each command is a real process.

    While it is `hurried`, a command that is run to its end sleeps for no time, so that its retries take none.
    """

    warm = True
    hurried = False

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "FLOODMARK_LOG_FORMAT": "text",
            "TMPDIR": str(self.temporary),
            **environment,
        }

    def configure(self, text: str) -> None:
        """Write floodmark.yaml, which the next commands find."""
        (self.folder / "floodmark.yaml").write_text(text)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "floodmark", *arguments]

    def start(
        self, *arguments: str, stdout: int | IO[bytes] = subprocess.PIPE, **named: Any
    ) -> subprocess.Popen[bytes]:
        environment = {**self.environment, **named.pop("environment", {})}
        return Child(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=environment,
            **named,
        )

    def __call__(self, *arguments: str, code: int = 0, **named: Any) -> Done:
        """Run a command to its end, which must be this exit code."""
        done = self._done(*arguments, **named)
        assert done.code == code, f"{arguments} ended with {done.code}, not {code}: {done.said}"
        require_documented(arguments, done.out)
        return done

    def run(self, *arguments: str, code: int = 0, **named: Any) -> Done:
        """`floodmark run --output json`."""
        return self("run", "--output", "json", *arguments, code=code, **named)

    def _done(self, *arguments: str, **named: Any) -> Done:
        environment = {**self.environment, **named.get("environment", {})}
        if self.warm and named.keys() <= {"environment"} and not needs_a_start(environment):
            asked = {"environment": environment, "folder": str(self.folder), "hurried": self.hurried}
            return looked_at(*warm_process()({"arguments": arguments, **asked}, patience=60))
        return self.end(self.start(*arguments, **named))

    def end(self, process: subprocess.Popen[bytes], patience: float = 60, said: bytes = b"") -> Done:
        """Wait for a command's end, and look at what no command may do. `said`: what it had said on stderr before."""
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"it does not end: {out!r} {err!r}") from None
        return looked_at(process.returncode, out or b"", said + err)


class Landing:
    """A folder that runs land in, and what the head in it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def files(self) -> dict[str, bytes]:
        """All objects: state and data, but not the lock."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name != ".floodmark-lock")
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in sorted(found)}

    @property
    def committed(self) -> dict[str, bytes]:
        """The objects that readers go by, and all data: everything but the list of runs in flight."""
        return {key: data for key, data in self.files.items() if not key.endswith("inflight.json")}

    @property
    def manifest(self) -> Manifest:
        state = self.folder / "_floodmark"
        head = decode(Head, (state / "head.json").read_bytes(), "head")
        return decode(Manifest, (state / head.manifest).read_bytes(), head.manifest)

    def lines(self, label: str) -> list[bytes]:
        """A table's lines, as the head's manifest names and vouches for them."""
        found: list[bytes] = []
        for entry in entry_of(self.manifest, label).objects:
            data = (self.folder / entry.key).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entry.sha256
            found += igzip.decompress(data).splitlines(keepends=True)
        return found


def entry_of(manifest: Manifest, label: str) -> Any:
    """A table's entry."""
    (found,) = [entry for entry in manifest.tables if entry.table.label == label]
    return found


def keys(bucket: S3Bucket) -> dict[str, str]:
    """Every key in a bucket, with its etag."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return {found["Key"]: found["ETag"] for page in pages for found in page.get("Contents", [])}


def content(bucket: S3Bucket, key: str) -> bytes:
    return bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()


def until(condition: Callable[[], object], patience: float = 20) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def asked_to_stop(process: subprocess.Popen[bytes], number: signal.Signals) -> bytes:
    """Send a command the signal, and wait until it has heard it: two that are sent before it gets to run come in the
    order of their numbers. Returns what it had said on stderr by then."""
    process.send_signal(number)
    assert process.stderr is not None
    said = b""
    while b"A second signal ends the process at once" not in said:
        more = os.read(process.stderr.fileno(), 4096)
        assert more, f"it ended without a word: {said!r}"
        said += more
    return said


def at_work(database: PgDatabase, pattern: str) -> Callable[[], bool]:
    """Whether a connection of Floodmark's is running, or waiting in, a statement like this."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floodmark' AND state = 'active' "
        "AND datname = current_database() AND query LIKE %s"
    )
    return lambda: bool(database.value(query, [pattern]))


def held(connection: psycopg.Connection[Any], table: str) -> None:
    """Lock a table against everyone, as a migration does, until the connection's transaction ends."""
    connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
