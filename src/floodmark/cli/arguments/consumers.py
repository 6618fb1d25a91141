"""The grammar of the commands that hand landed data on: load, schema and deliver."""

from __future__ import annotations

from typing import get_args

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands
from floodmark.cli.arguments.values import count, memory
from floodmark.layout import LAYOUTS
from floodmark.model import Numbers

_STATE = ("FLOODMARK_DESTINATION", "FLOODMARK_STATE", "AWS_PROFILE, …")
_LOG = ("FLOODMARK_LOG_FORMAT", "FLOODMARK_LOG_LEVEL", "NO_COLOR")

_LOAD = CommandHelp(
    summary="bring DuckDB, Parquet files, Glue or Iceberg tables up to date",
    description=(
        "Load the tables that changed since the last load, and exchange all of them at once. Readers see one run's "
        "snapshot before the exchange and another one after it. A load that was interrupted leaves the old tables."
    ),
    variables=(*_STATE, "FLOODMARK_ENGINE", *_LOG),
    examples=(
        "floodmark load --destination s3://lake/cases --into duckdb:cases.db",
        "floodmark load --destination s3://lake/cases --into glue:cases --drop",
    ),
    exit_codes=(3, 10, 11, 13, 14, 16, 130, 143),
)
_SCHEMA = CommandHelp(
    summary="print the tables' schemas, for other tools",
    description=(
        "Print what the tables look like, as JSON made from the manifest. One table that is named in full gives its "
        "document; anything else gives a list of documents. With dbt, print the sources.yml of the tables."
    ),
    variables=_STATE,
    examples=(
        "floodmark schema --format mojap --table public.person --state s3://lake/state",
        "floodmark schema --format dbt --destination ./lake > models/sources.yml",
    ),
    exit_codes=(10, 13),
)
_DELIVER = CommandHelp(
    summary="deliver the changed tables to a landing zone, each as a whole",
    description=(
        "Deliver the tables that changed since the last delivery, each as one complete set of files. Without --to it "
        "makes the deliveries of floodmark.yaml, as every run does after its commit."
    ),
    variables=(*_STATE, "FLOODMARK_ENGINE", *_LOG),
    examples=(
        "floodmark deliver --destination s3://lake/cases --to s3://moj-reg-prod/landing",
        "floodmark deliver --config cases.yaml --name moj --output json",
    ),
    exit_codes=(10, 11, 13, 14, 16, 130, 143),
)


def add_load(commands: Commands) -> None:
    load = commands.add("load", _LOAD)
    load.add_argument(
        "--into",
        required=True,
        metavar="TARGET",
        help="duckdb:FILE, parquet:URL, glue:DATABASE or iceberg:NAMESPACE",
    )
    load.add_argument(
        "--files", metavar="URL", help="with glue: the place of the files (default: the database's location)"
    )
    load.add_argument("--memory", type=memory, metavar="SIZE", help="with duckdb: DuckDB's memory (default: 192MiB)")
    load.add_argument(
        "--catalog",
        metavar="CATALOG",
        help="with iceberg: a name of .pyiceberg.yaml, sqlite:///FILE, https://HOST or glue: (default: PyIceberg's)",
    )
    load.add_argument("--warehouse", metavar="URL", help="with iceberg: the place of new tables")
    load.add_argument(
        "--keep-snapshots",
        type=count,
        metavar="N",
        help="with iceberg: expire all but the N newest snapshots of loaded tables (default: keep all)",
    )
    groups.add_text(load, "load this column as text; can be repeated")
    load.add_argument(
        "--history",
        action="store_true",
        help="with duckdb and iceberg: also keep each row's versions, in TABLE_history",
    )
    load.add_argument("--full", action="store_true", help="load every table again, whatever the target holds")
    load.add_argument("--drop", action="store_true", help="drop tables that are no longer part of the snapshot")
    load.add_argument(
        "--adopt-source", action="store_true", help="take over a target that holds another database's tables"
    )
    groups.add_engine(load)
    groups.add_table(load)
    groups.add_exclude(load)
    groups.add_output(load)
    groups.add_verbosity(load, quiet=True)
    groups.add_places(load, source=False)
    groups.add_log(load)


def add_schema(commands: Commands) -> None:
    schema = commands.add("schema", _SCHEMA)
    schema.add_argument("--format", choices=("mojap", "json-schema", "dbt"), required=True, help="the kind of document")
    schema.add_argument(
        "--layout",
        dest="to_layout",
        choices=tuple(LAYOUTS),
        help="with mojap: use the names of a delivery in this layout (default: those of the run's keys)",
    )
    schema.add_argument(
        "--database-name", metavar="N", help="with mojap: the database's name in the keys of the delivery"
    )
    schema.add_argument(
        "--glue", metavar="DATABASE", help="with dbt: the Glue database that holds the tables (default: a DuckDB file)"
    )
    schema.add_argument(
        "--dbt-utils", action="store_true", help="with dbt: test keys of several columns with dbt_utils"
    )
    groups.add_text(schema, "with mojap: describe this column as text; can be repeated")
    groups.add_table(schema)
    groups.add_places(schema, source=False)


def add_deliver(commands: Commands) -> None:
    deliver = commands.add("deliver", _DELIVER)
    deliver.add_argument("--to", metavar="URL", help="the place to deliver to (default: as configured in `deliver`)")
    deliver.add_argument("--name", metavar="N", help="the delivery's name, under which it remembers what was delivered")
    deliver.add_argument(
        "--layout",
        dest="to_layout",
        choices=tuple(LAYOUTS),
        help="with --to: the layout of the keys (default: chosen by the name of the place)",
    )
    deliver.add_argument(
        "--numbers",
        dest="to_numbers",
        choices=get_args(Numbers),
        help="with --to: quote-large sends numbers beyond 64 bits as strings",
    )
    groups.add_engine(deliver)
    groups.add_table(deliver)
    groups.add_exclude(deliver)
    groups.add_output(deliver)
    groups.add_verbosity(deliver, quiet=True)
    groups.add_places(deliver, source=False)
    groups.add_log(deliver)
