"""PyMySQL's cursor without a buffer, which can also be closed after its connection is lost."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pymysql.cursors import SSCursor  # optional extra


class StreamingCursor(SSCursor):
    """A cursor that keeps no rows.

    Before an SSCursor is closed, it reads the rows that are left. Without a connection this raises AttributeError, and
    again when the cursor or its result is freed: Python then prints a traceback.
    """

    def close(self) -> None:
        try:
            super().close()
        except Exception:
            this: Any = self
            if this._result is not None:
                this._result.unbuffered_active = False
            this._result = this.connection = None
            raise

    def __del__(self) -> None:
        with suppress(Exception):  # whoever lost the connection has told why
            self.close()
