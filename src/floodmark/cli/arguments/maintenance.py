"""The grammar of the commands that watch and maintain landed data: exporter, verify, prune and doctor."""

from __future__ import annotations

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands
from floodmark.cli.arguments.values import count, moment, port

_STATE = ("FLOODMARK_DESTINATION", "FLOODMARK_STATE", "AWS_PROFILE, …")
_LOG = ("FLOODMARK_LOG_FORMAT", "FLOODMARK_LOG_LEVEL", "NO_COLOR")
_SOURCE = ("FLOODMARK_SOURCE", "PGHOST, PGDATABASE, …")

_REPORT = CommandHelp(
    summary="write a report about one or many states as an HTML file",
    description=(
        "Write one HTML file about all states given: what needs attention, how fresh each database is, its nights, its "
        "tables and columns, and what changed. The file loads nothing and holds no row. The command needs only the "
        "states, and the extra `report`. A state that can't be read is shown as such, and sets the exit code."
    ),
    variables=("FLOODMARK_DESTINATION", "FLOODMARK_STATE", "FLOODMARK_STATES", "AWS_PROFILE, …"),
    examples=(
        "floodmark report --destination s3://lake/cases --html report.html",
        "floodmark report --state s3://lake/a --state s3://lake/b --html all.html",
    ),
    exit_codes=(10, 13),
)
_EXPORTER = CommandHelp(
    summary="serve states as Prometheus metrics until it is stopped",
    description=(
        "Read one state or many at an interval, and serve them as metrics at /metrics, and as the report at /, until "
        "SIGINT or SIGTERM. If a state can't be read, its last known values stay. /health answers 200 as long as the "
        "process works."
    ),
    variables=(*_STATE[:2], "FLOODMARK_STATES", _STATE[2], *_LOG[:2]),
    examples=(
        "floodmark exporter --destination s3://lake/cases --port 9000",
        "floodmark exporter --state s3://lake/cases --state s3://lake/staff",
    ),
    exit_codes=(10, 13),
)
_VERIFY = CommandHelp(
    summary="check that the objects are what the manifest says",
    description=(
        "Check the manifests against each other, and each object against its manifest: its size and checksum, with "
        "--deep its content, with --against-source the database. It writes nothing. The error names the commands that "
        "write faulty tables again."
    ),
    variables=(*_SOURCE, *_STATE, "FLOODMARK_ENGINE", *_LOG),
    examples=(
        "floodmark verify --destination s3://lake/cases --deep",
        "floodmark verify --against-source --table public.person",
    ),
    exit_codes=(10, 12, 13, 14, 16, 130, 143),
)
_PRUNE = CommandHelp(
    summary="delete old snapshots, and what killed runs left",
    description=(
        "Delete old snapshots by exactly one of three rules, and what killed runs left. The current snapshot always "
        "stays, and so does every snapshot that was current within the grace time. Runs can be in progress."
    ),
    variables=(*_STATE, *_LOG),
    examples=(
        "floodmark prune --destination s3://lake/cases --keep-days 30 --dry-run",
        "floodmark prune --state s3://lake/state --erase-before 2026-11-01 --grace 0",
    ),
    exit_codes=(10, 11, 13, 130, 143),
)
_DOCTOR = CommandHelp(
    summary="check a run's prerequisites, and suggest fixes",
    description=(
        "Check a run's prerequisites and suggest fixes: a setting to change, or a statement to run. Give it the "
        "options of the run. It never writes to the source, and leaves nothing at the destination."
    ),
    variables=(*_SOURCE, *_STATE, "FLOODMARK_ENGINE", "NO_COLOR"),
    examples=(
        "floodmark doctor --source postgresql://me@db/cases --destination ./out",
        "floodmark doctor --config cases.yaml --output json",
    ),
    exit_codes=(10, 12, 13, 15, 16),
)


def add_report(commands: Commands) -> None:
    report = commands.add("report", _REPORT)
    report.add_argument("--html", required=True, metavar="FILE", help="the file to write; - is stdout")
    report.add_argument(
        "--nights", type=count, default=30, metavar="N", help="show the last N committed runs (default: 30)"
    )
    groups.add_places(report, source=False, several=True)


def add_exporter(commands: Commands) -> None:
    exporter = commands.add("exporter", _EXPORTER)
    exporter.add_argument("--port", type=port, default=9464, metavar="N", help="the port to listen at (default: 9464)")
    exporter.add_argument("--address", default="", metavar="A", help="the address to listen at (default: all)")
    exporter.add_argument(
        "--interval", type=count, default=60, metavar="SECONDS", help="the time between two readings (default: 60)"
    )
    exporter.add_argument("--no-report", action="store_true", help="do not serve the report at /")
    exporter.add_argument(
        "--state-label",
        action="store_true",
        help="add the label `state_url` to every series, for databases of the same name",
    )
    groups.add_places(exporter, source=False, several=True)
    groups.add_log(exporter)


def add_verify(commands: Commands) -> None:
    verify = commands.add("verify", _VERIFY)
    groups.add_run(verify)
    verify.add_argument("--deep", action="store_true", help="read every object: its content, rows and checksums")
    verify.add_argument("--against-source", action="store_true", help="read the database again and compare")
    groups.add_table(verify)
    verify.add_argument("--connections", type=count, metavar="N", help="use at most N connections to the source")
    groups.add_engine(verify)
    groups.add_output(verify)
    groups.add_verbosity(verify, quiet=True)
    groups.add_places(verify, source=True)
    groups.add_log(verify)


def add_prune(commands: Commands) -> None:
    prune = commands.add("prune", _PRUNE)
    rule = prune.add_mutually_exclusive_group(required=True)
    rule.add_argument(
        "--keep-days", type=count, metavar="N", help="keep snapshots that were current in the last N days"
    )
    rule.add_argument("--keep-last", type=count, metavar="N", help="keep the N newest snapshots")
    rule.add_argument(
        "--erase-before", type=moment, metavar="DATE", help="keep no data that was extracted before this date"
    )
    prune.add_argument("--grace", metavar="SPAN", help="the time that readers and runs can take (default: 7d)")
    prune.add_argument("--dry-run", action="store_true", help="show what would be deleted, and delete nothing")
    prune.add_argument("--quiet", action="store_true", help="print only problems")
    groups.add_output(prune)
    groups.add_places(prune, source=False)
    groups.add_log(prune)


def add_doctor(commands: Commands) -> None:
    doctor = commands.add("doctor", _DOCTOR)
    groups.add_output(doctor)
    groups.add_places(doctor, source=True)
    groups.add_lines(doctor)
    groups.add_selection(doctor)
    groups.add_engine(doctor)
    groups.add_metrics(doctor)
