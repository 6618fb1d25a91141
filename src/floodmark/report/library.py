"""The chart library: the scripts of Vega, Vega-Lite and Vega-Embed as one text, from the package vl-convert-python.

vl-convert holds a JavaScript engine of 150 MB. So a process that only lives for this bundles the scripts, and the
result is kept. Only render_html loads vl-convert, so that the process that renders pages stays small.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.util import find_spec

from floodmark.errors import ConfigError, FloodmarkError
from floodmark.wording import install_hint

_BUNDLE = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"
_SECONDS = 120


def require_report_extra() -> None:
    """Raise ConfigError if the packages of the extra `report` are not installed."""
    for name in ("vl_convert", "jinja2"):
        if find_spec(name) is None:
            raise ConfigError(
                "can't make the report", why=f"the package {name} is not installed", hint=install_hint("report")
            )


@cache
def chart_library() -> str:
    """Return the scripts as one text for a script element. Raises ConfigError, FloodmarkError."""
    require_report_extra()
    command = [sys.executable, "-I", "-c", _BUNDLE]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        hint = "It runs in a process of its own, which takes 150 MiB for a few seconds. See the memory limit."
        raise FloodmarkError("can't load the chart library", why=_why(error), hint=hint) from None
    text = done.stdout.decode("utf-8")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        code = error.returncode
        return f"its process was killed by signal {-code}" if code < 0 else f"its process ended with exit code {code}"
    return f"its process took more than {_SECONDS} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
