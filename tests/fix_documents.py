"""The JSON documents of the commands: the type of each, its JSON Schema, and a check of what a command printed."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import cleandoc
from typing import Any, cast

import msgspec

from floodmark.cli.commands.changes import ComparedRecord, RowRecord, TableRecord
from floodmark.cli.commands.contract import ContractDocument
from floodmark.cli.commands.deliver import DeliverDocument
from floodmark.cli.commands.doctor import DoctorDocument
from floodmark.cli.commands.load import LoadDocument
from floodmark.cli.commands.notify import NotifyDocument
from floodmark.cli.commands.prune import PruneDocument
from floodmark.cli.commands.verify import VerifyDocument
from floodmark.cli.output.overview import OverviewDocument
from floodmark.cli.output.views import HistoryDocument, PlanDocument, StatusDocument
from floodmark.differences import ManifestDifference, NoDifference
from floodmark.journal.status import JournalDocument
from floodmark.model import TableEntry
from floodmark.state.manifest import Manifest

# `show RUN TABLE` prints one entry of a manifest. Before the first commit, `show` has no run to show.
DOCUMENTS: dict[str, tuple[Any, ...]] = {
    "run": (Manifest,),
    "plan": (PlanDocument,),
    "status": (StatusDocument, OverviewDocument),  # the second one with several states
    "history": (HistoryDocument,),
    "show": (Manifest, TableEntry, StatusDocument),
    "diff": (ManifestDifference, NoDifference),
    "changes": (ComparedRecord, TableRecord, RowRecord),  # each line of --output jsonl
    "load": (LoadDocument,),
    "deliver": (DeliverDocument,),
    "verify": (VerifyDocument,),
    "prune": (PruneDocument,),
    "notify": (NotifyDocument,),
    "journal": (JournalDocument,),
    "contract": (ContractDocument,),
    "doctor": (DoctorDocument,),
}


def schema_of(command: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a command prints with --output json."""
    schemas, definitions = msgspec.json.schema_components(DOCUMENTS[command], ref_template="#/$defs/{name}")
    one = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **one, "$defs": definitions}
    return cast(dict[str, Any], _tidied(msgspec.json.decode(msgspec.json.encode(schema))))


def _tidied(schema: Any) -> Any:
    """A schema whose descriptions have no indentation. msgspec removes it from docstrings only from 0.23 on."""
    if isinstance(schema, dict):
        return {
            key: cleandoc(value) if key == "description" and isinstance(value, str) else _tidied(value)
            for key, value in schema.items()
        }
    return [_tidied(one) for one in schema] if isinstance(schema, list) else schema


def require_documented(arguments: Sequence[str], out: str) -> None:
    """What a command printed has exactly the keys and the types that its JSON Schema names."""
    if "json" not in arguments or "--output" not in arguments or arguments[0] not in DOCUMENTS or not out:
        return
    raw = msgspec.json.decode(out.encode())
    problems = [_problem(raw, kind) for kind in DOCUMENTS[arguments[0]]]
    assert None in problems, f"{arguments}: {problems}"


def _problem(raw: Any, kind: Any) -> str | None:
    """How a document differs from a type, None if it does not."""
    try:
        again = msgspec.json.decode(msgspec.json.encode(msgspec.convert(raw, kind)))
    except msgspec.ValidationError as error:
        return str(error)
    return None if again == raw else "its keys are not the documented ones"
