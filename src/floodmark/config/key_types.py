"""The types of floodmark.yaml's keys, with the bounds and the texts that `config.json_schema` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from floodmark.config import values

DEFAULT = "x-default"  # msgspec overwrites "default" with the struct's own, which is None: not set


def documented_key(description: str, default: object = None, examples: Sequence[object] = ()) -> Meta:
    """Return the documentation of a key. `default` is the value of a key that is not set, or None."""
    extra = {} if default is None else {DEFAULT: default}
    return Meta(description=description, examples=list(examples) or None, extra_json_schema=extra)


def _whole_number(low: int, high: int) -> Meta:
    """Describe the bounds of a number that `load` checks, so that its errors can name the unit."""
    return Meta(extra_json_schema={"minimum": low, "maximum": high})


Natural = Annotated[int, Meta(ge=0, le=2_147_483)]
Positive = Annotated[int, Meta(ge=1, le=2_147_483)]
Amount = int | str
_DurationText = Annotated[str, Meta(extra_json_schema={"pattern": values.DURATION_PATTERN})]
Size = (
    Annotated[int, _whole_number(values.MIN_CHUNK, values.MAX_CHUNK)]
    | Annotated[str, Meta(extra_json_schema={"pattern": values.SIZE_PATTERN})]
)
SnapshotAge = Annotated[int, _whole_number(1, values.MAX_SNAPSHOT_AGE)] | _DurationText
TimeLimit = Annotated[int, _whole_number(1, values.MAX_SECONDS)] | _DurationText
Wait = Annotated[int, _whole_number(0, values.MAX_SECONDS)] | _DurationText
_ShareText = Annotated[str, Meta(extra_json_schema={"pattern": values.SHARE_PATTERN})]
Share = Annotated[int, _whole_number(0, 100)] | _ShareText
_PercentageText = Annotated[str, Meta(extra_json_schema={"pattern": values.PERCENTAGE_PATTERN})]
Percentage = Annotated[int, _whole_number(0, 100)] | _PercentageText
Grace = Annotated[int, _whole_number(0, values.MAX_GRACE)] | _DurationText
Acl = Literal["private", "bucket-owner-read", "bucket-owner-full-control"]
Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]
