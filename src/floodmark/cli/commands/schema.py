"""`floodmark schema`: print the tables' schemas, for other tools."""

from __future__ import annotations

import argparse

from floodmark.cli.landed import current_snapshot, included_tables, landed_settings, names_one
from floodmark.cli.output.empty import prints_if_no_state
from floodmark.cli.output.streams import CommandStreams
from floodmark.errors import EXIT_OK, UsageError
from floodmark.reader.dbt import DbtOptions, dbt_sources, dbt_yaml
from floodmark.reader.schema import ITSELF, SchemaReceiver, described, json_schemas, mojap


def schema(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Print one document per table. The document of a single named table is printed as it is.

    With `--format dbt`, print one document in YAML for all tables.
    """
    receiver = SchemaReceiver(options.to_layout, options.database_name, tuple(options.text))
    if options.format != "mojap" and receiver != ITSELF:
        hint = "A JSON Schema describes the lines, whoever receives them."
        raise UsageError("--layout, --database-name and --text need --format mojap", hint=hint)
    if options.format != "dbt" and (options.glue is not None or options.dbt_utils):
        raise UsageError("--glue and --dbt-utils need --format dbt")
    empty: object = None if names_one(options.table) else {"tables": []}
    empty = {"version": 2, "sources": []} if options.format == "dbt" else empty
    with prints_if_no_state(empty, options, streams):
        manifest = current_snapshot(landed_settings(options, streams), streams.report_retry).manifest
    if options.format == "dbt":
        wanted = included_tables(options.table, manifest, described(manifest)) if options.table else None
        entries = [one for one in described(manifest) if wanted is None or one.table in wanted]
        streams.out.write(dbt_yaml(dbt_sources(manifest, entries, DbtOptions(options.glue, options.dbt_utils))))
        return EXIT_OK
    documents = mojap(manifest, receiver) if options.format == "mojap" else json_schemas(manifest)
    if options.table:
        entries = described(manifest)
        wanted = included_tables(options.table, manifest, entries)
        documents = [one for entry, one in zip(entries, documents, strict=True) if entry.table in wanted]
    streams.print_json(documents[0] if names_one(options.table) else {"tables": documents})
    return EXIT_OK
