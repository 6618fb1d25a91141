"""The JSON documents of the commands: the type of each, its JSON Schema, and a check of what a command printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from floodmark.cli.commands.deliver import DeliverDocument
from floodmark.cli.commands.doctor import DoctorDocument
from floodmark.cli.commands.load import LoadDocument
from floodmark.cli.commands.prune import PruneDocument
from floodmark.cli.commands.verify import VerifyDocument
from floodmark.cli.output.views import HistoryDocument, PlanDocument, StatusDocument
from floodmark.model import TableEntry
from floodmark.state.manifest import Manifest

# `show RUN TABLE` prints one entry of a manifest.
DOCUMENTS: dict[str, tuple[Any, ...]] = {
    "run": (Manifest,),
    "plan": (PlanDocument,),
    "status": (StatusDocument,),
    "history": (HistoryDocument,),
    "show": (Manifest, TableEntry),
    "load": (LoadDocument,),
    "deliver": (DeliverDocument,),
    "verify": (VerifyDocument,),
    "prune": (PruneDocument,),
    "doctor": (DoctorDocument,),
}


def schema_of(command: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a command prints with --output json."""
    schemas, definitions = msgspec.json.schema_components(DOCUMENTS[command], ref_template="#/$defs/{name}")
    one = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **one, "$defs": definitions}
    return cast(dict[str, Any], msgspec.json.decode(msgspec.json.encode(schema)))


def require_documented(arguments: Sequence[str], out: str) -> None:
    """What a command printed has exactly the keys and the types that its JSON Schema names."""
    if "json" not in arguments or "--output" not in arguments or arguments[0] not in DOCUMENTS or not out:
        return
    raw = msgspec.json.decode(out.encode())
    kinds = DOCUMENTS[arguments[0]]
    kind = kinds[0] if len(kinds) == 1 or "format" in raw else kinds[1]
    again = msgspec.json.decode(msgspec.json.encode(msgspec.convert(raw, kind)))
    assert again == raw, f"{arguments}: its keys are not the documented ones"
