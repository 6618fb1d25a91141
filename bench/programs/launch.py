"""Run a program and write its times and memory to a file: python -I -S launch.py FILE PROGRAM ARGUMENT…

Linux counts the memory of the program that starts another one as the other one's peak, so this one stays small.
"""

from __future__ import annotations

import os
import sys
import time

result, *command = sys.argv[1:]
begun = time.perf_counter()
try:
    child = os.posix_spawnp(command[0], command, os.environ)
except OSError as error:
    sys.exit(f"{command[0]}: {error.strerror}")
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - begun
with open(result, "w") as file:  # noqa: PTH123 - pathlib would double this program's memory
    print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, file=file)
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
