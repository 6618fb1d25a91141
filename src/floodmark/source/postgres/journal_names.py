"""The names of the change journal's objects. The migrations hold them too, and a test compares the two."""

from __future__ import annotations

SCHEMA = "floodmark"
# The revision that this version of Floodmark installs.
REVISION = "0001"
# The triggers on a table: one for INSERT, UPDATE and DELETE, and one for TRUNCATE. The function is theirs.
WRITE_TRIGGER = "floodmark_journal"
TRUNCATE_TRIGGER = "floodmark_journal_truncate"
RECORD_FUNCTION = "record_write"
# The triggers and the function that notice if rows of the journal itself are lost.
GUARD_TRIGGERS = ("guard_delete", "guard_update")
GUARD_FUNCTION = "guard_journal"
# A row of the journal means 2 to the power of BUCKET_SHIFT transaction ids.
BUCKET_SHIFT = 10
# The floor beyond every transaction. It fits into a bigint.
ENDLESS = 2**63 - 1
