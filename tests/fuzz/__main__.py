"""`make fuzz`: feed the native encoder and decoder bytes that libFuzzer invents, under AddressSanitizer and UBSan.

It builds both once more, in a temporary folder, with clang. There each reservation gives exactly the memory that was
asked for, so that a write beyond it is seen. The first inputs are rows that a real server sent, and lines. FUZZ_SECONDS
is the time (default 600). An input that breaks one of them is kept as fuzz-crash-….
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests"), str(ROOT / "src")]

from lines import LINE_VALUES  # noqa: E402

from fix_encoder import PG_NAMES, VALUES, rows  # noqa: E402
from fix_postgres import BASE, BINARIES, DEFAULT_VERSION, Cluster  # noqa: E402

SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
# file -> text -> its replacement: no spare memory anywhere
EXACT = {
    "output.pxd": {
        "if out.capacity - out.used >= more:": "if False:",
        "wanted = max(wanted, out.capacity + out.capacity // 2, <size_t>4096)": "wanted = max(wanted, <size_t>1)",
    },
    "arrow_columns.pxd": {"room = room * 2 if room else 4096": "room = column.text_size + more"},
    "decoder.pyx": {"room = room * 2 if room else 1024": "room = rows"},
}


def main() -> int:
    if shutil.which("clang") is None:
        print(
            "make fuzz needs clang, with its sanitizers (Debian: apt-get install clang libclang-rt-dev)",
            file=sys.stderr,
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="floodmark-fuzz-") as folder:
        build(Path(folder))
        seeds(Path(folder) / "corpus")
        return fuzz(Path(folder), int(os.environ.get("FUZZ_SECONDS") or 600))


def build(folder: Path) -> None:
    package = folder / "floodmark/native"
    shutil.copytree(ROOT / "src/floodmark/native", package, ignore=shutil.ignore_patterns("*.c", "*.so", "*.py"))
    for name, changes in EXACT.items():
        text = (package / name).read_text(encoding="utf-8")
        for old, new in changes.items():
            assert text.count(old) == 1, f"{name} has changed: {old}"
            text = text.replace(old, new)
        (package / name).write_text(text, encoding="utf-8")
    for init in (package / "__init__.py", package.parent / "__init__.py"):
        init.touch()
    for module in (HERE / "target.py", HERE / "lines.py", ROOT / "tests/fix_encoder.py"):
        shutil.copy(module, folder)
    include = ["-I", sysconfig.get_path("include")]
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    shared = ["-shared", "-fPIC", "-fsanitize=fuzzer-no-link", *SANITIZE, "-w", *include]
    for name in ("encoder", "decoder"):
        cython = [sys.executable, "-m", "cython", "-3", f"{name}.pyx", "--module-name", f"floodmark.native.{name}"]
        subprocess.run([*cython, "-I", str(folder)], cwd=package, check=True)
        subprocess.run(["clang", *shared, f"{name}.c", "-o", f"{name}{suffix}"], cwd=package, check=True)
    target = ["-fsanitize=fuzzer", *SANITIZE, *include, "-rdynamic", str(HERE / "target.c"), *python_library()]
    subprocess.run(["clang", *target, "-o", "fuzz"], cwd=folder, check=True)


def python_library() -> list[str]:
    """The linker's flags for this interpreter, shared or static."""
    where, version = str(sysconfig.get_config_var("LIBDIR")), str(sysconfig.get_config_var("LDVERSION"))
    others = f"{sysconfig.get_config_var('LIBS')} {sysconfig.get_config_var('SYSLIBS')}".split()
    return ["-L", where, f"-Wl,-rpath,{where}", f"-lpython{version}", *others]


def seeds(corpus: Path) -> None:
    """Write inputs that a server made: rows of all kinds, by each way, and each value by each way for its kind."""
    corpus.mkdir()
    kinds, number = list(VALUES), 0
    for record, message in server_rows(kinds, 30):
        inputs = [bytes([way]) + record for way in range(3)] + [bytes([3 + way]) + message for way in range(3)]
        inputs.append(bytes([6]) + marked(message))
        for kind, value in enumerate(values_of(message)):
            inputs += [bytes([7 + kind + way * len(kinds)]) + value for way in range(3)]
        for content in inputs:
            (corpus / str(number := number + 1)).write_bytes(content)
    for content in line_inputs(first=7 + 3 * len(kinds)):
        (corpus / str(number := number + 1)).write_bytes(content)


def line_inputs(first: int) -> Iterator[bytes]:
    """Give each value of a line to its decoder, and lines of all kinds to the last one."""
    for place, values in enumerate(LINE_VALUES.values()):
        for value in values:
            yield bytes([first + place]) + value.encode()
            yield bytes([first + len(LINE_VALUES) + place]) + value.encode()
    for turn in range(3):
        values = [values[turn % len(values)] for values in LINE_VALUES.values()]
        line = ",".join(f'"{place}":{value}' for place, value in enumerate(values))
        yield bytes([first + 2 * len(LINE_VALUES)]) + f"{{{line}}}\n".encode()


def server_rows(kinds: list[str], number: int) -> list[tuple[bytes, bytes]]:
    """Return rows from a real server: by record_send, and as COPY sends them."""
    columns = ", ".join(f"c{place} {PG_NAMES.get(kind, kind)}" for place, kind in enumerate(kinds))
    with Cluster.create(BINARIES[DEFAULT_VERSION], base=BASE) as server, server.admin() as connection:
        connection.execute(f"CREATE TEMP TABLE t ({columns})")
        with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            for row in rows(Random(1), kinds, number):
                copy.write(row)
        records = [row[0] for row in connection.execute("SELECT record_send(t) FROM t", binary=True).fetchall()]
        with connection.cursor() as cursor, cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copy:
            messages = [bytes(message) for message in copy][:number]
    return list(zip(records, messages, strict=True))


def marked(message: bytes) -> bytes:
    """Return a row with one more field."""
    at = 19 if message.startswith(b"PGCOPY") else 0
    number = int.from_bytes(message[at : at + 2], "big") + 1
    return message[:at] + number.to_bytes(2, "big") + message[at + 2 :] + bytes(4)


def values_of(message: bytes) -> list[bytes]:
    """Return the values of a row as COPY sends it; an empty one for a null."""
    found, at = [], 2 if not message.startswith(b"PGCOPY") else 21
    while at < len(message):
        length = int.from_bytes(message[at : at + 4], "big", signed=True)
        at += 4 + max(length, 0)
        found.append(message[at - max(length, 0) : at])
    return found


def fuzz(folder: Path, duration: int) -> int:
    environment = {
        **os.environ,
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": str(folder),
        "PYTHONMALLOC": "malloc",  # so that AddressSanitizer sees each object
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    options = [f"-max_total_time={duration}", "-max_len=4096", "-print_final_stats=1", "-timeout=20", "-reload=0"]
    command = [str(folder / "fuzz"), *options, f"-artifact_prefix={ROOT}/fuzz-", str(folder / "corpus")]
    return subprocess.run(command, cwd=folder, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
