"""The guards against silent success: from the file's `guards` section and --accept-loss to checked `Guards`."""

from __future__ import annotations

from floodmark.config.schema import GuardsSection
from floodmark.config.settings import Flags, Guards
from floodmark.config.shown import CONFIG_REFUSED
from floodmark.config.values import parse_share
from floodmark.errors import ConfigError


def guard_settings(arguments: Flags, section: GuardsSection, name: str) -> Guards:
    """Return the guards. `name` is the file's, for errors. Raises ConfigError, also if --accept-loss is given."""
    checked = Guards(
        tables_gone=_share(section.tables_gone, Guards().tables_gone, f"guards.tables_gone ({name})"),
        rows_removed=_share(section.rows_removed, Guards().rows_removed, f"guards.rows_removed ({name})"),
        first_run_empty=section.first_run_empty or Guards().first_run_empty,
    )
    return Guards(None, None, "accept") if arguments.accept_loss else checked


def _share(value: int | str | None, default: int | None, on: str) -> int | None:
    if value is None:
        return default
    try:
        return parse_share(value)
    except ValueError as error:
        raise ConfigError(CONFIG_REFUSED, on=on, why=str(error), hint="Write 0% to 100%, or accept.") from None
