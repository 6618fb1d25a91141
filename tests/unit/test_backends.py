"""From settings to stores: what can't work is told before anything is read or written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from floodmark.config import Flags, load
from floodmark.errors import ConfigError
from floodmark.pipeline.job import run


def test_an_extra_that_is_not_installed_is_missed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "floodmark.yaml").write_text(f"destination: {{url: {tmp_path}/landing, compression: zstd}}\n")
    settings = load(Flags(config=tmp_path / "floodmark.yaml"), {"FLOODMARK_SOURCE": f"sqlite:///{tmp_path}/a.db"})
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match=r"In a checkout of Floodmark: pip install '\.\[zstd\]'"):
        run(settings)
    assert not (tmp_path / "landing").exists()
