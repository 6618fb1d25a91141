"""The grammar of the commands that run, plan a run, and show runs."""

from __future__ import annotations

from floodmark.cli.arguments import groups
from floodmark.cli.arguments.help import CommandHelp
from floodmark.cli.arguments.parser import Commands
from floodmark.cli.arguments.values import count, since

_PLACES = ("FLOODMARK_SOURCE", "PGHOST, PGDATABASE, …", "FLOODMARK_DESTINATION", "FLOODMARK_STATE")
_LOG = ("FLOODMARK_LOG_FORMAT", "FLOODMARK_LOG_LEVEL", "NO_COLOR")
_STATE = ("FLOODMARK_DESTINATION", "FLOODMARK_STATE", "AWS_PROFILE, …", "NO_COLOR")
_STATES = ("FLOODMARK_DESTINATION", "FLOODMARK_STATE", "FLOODMARK_STATES", "AWS_PROFILE, …", "NO_COLOR")

_RUN = CommandHelp(
    summary="extract what changed and publish a manifest",
    description=(
        "Take one snapshot of the source, prove which tables did not change, extract the others, and publish one "
        "manifest. The first SIGINT or SIGTERM ends the run cleanly; the next run continues from there."
    ),
    variables=(*_PLACES, "FLOODMARK_MASK_KEY", "FLOODMARK_PUSHGATEWAY", "FLOODMARK_ENGINE", "AWS_PROFILE, …", *_LOG),
    examples=(
        "floodmark run --source postgresql://me@db/cases --destination s3://lake/cases",
        "floodmark run --config cases.yaml --table 'audit.*' --output json",
    ),
    exit_codes=(3, 10, 11, 12, 13, 14, 15, 16, 130, 143),
)
_PLAN = CommandHelp(
    summary="show what a run would do, and why; reads only",
    description=(
        "Take the same snapshot as a run, and show for each table what a run would do and why. It writes nothing, "
        "neither to the source nor to the destination."
    ),
    variables=(*_PLACES, "AWS_PROFILE, …", *_LOG),
    examples=(
        "floodmark plan --source postgresql://me@db/cases --destination s3://lake/cases",
        "floodmark plan --detailed-exitcode --output json",
    ),
    exit_codes=(10, 12, 13, 15, 20, 130, 143),
)
_STATUS = CommandHelp(
    summary="show the tables, how fresh they are, and the last decisions",
    description=(
        "Show each table of the current manifest: its rows and size, how long ago the source held exactly these rows, "
        "the last decision about it, and when it last changed. Below are the last runs, whatever their end. With "
        "several states, show a line for each, the worst first. It needs only the state."
    ),
    variables=_STATES,
    examples=(
        "floodmark status --destination s3://lake/cases --output json",
        "floodmark status --state s3://lake/cases/_floodmark --state ./other",
    ),
    exit_codes=(10, 13),
)
_HISTORY = CommandHelp(
    summary="show the runs, newest first",
    description=(
        "Show the runs, newest first, also those that failed or were stopped: the outcome, the exit code, the "
        "duration, how many tables changed, or how far the run came. It needs only the state."
    ),
    variables=_STATE,
    examples=("floodmark history --destination s3://lake/cases", "floodmark history --limit 5 --output json"),
    exit_codes=(10, 13),
)
_SHOW = CommandHelp(
    summary="show a run's manifest: each table with its details",
    description=(
        "Show one manifest with its facts about each table, or all facts about one TABLE. Without RUN it is the "
        "current one. RUN is an id that `floodmark history` lists, the beginning of exactly one of them, or `current`."
    ),
    variables=_STATE,
    examples=(
        "floodmark show --destination s3://lake/cases",
        "floodmark show 20261124T0102 public.person --destination s3://lake/cases",
    ),
    exit_codes=(10, 13),
)


def add_runs(commands: Commands) -> None:
    run, plan = commands.add("run", _RUN), commands.add("plan", _PLAN)
    for command in (run, plan):
        groups.add_output(command)
        groups.add_places(command, source=True)
        groups.add_lines(command)
        groups.add_selection(command)
        groups.add_log(command)
    groups.add_verbosity(run, quiet=True)
    groups.add_verbosity(plan, quiet=False)
    groups.add_metrics(run)
    groups.add_engine(run)
    run.add_argument("--no-audit", action="store_true", help="read no proven chunk again; leave that to the next run")
    plan.add_argument("--detailed-exitcode", action="store_true", help="exit with 20 if there is work, 0 if not")


def add_history(commands: Commands) -> None:
    status, history, show = (
        commands.add("status", _STATUS),
        commands.add("history", _HISTORY),
        commands.add("show", _SHOW),
    )
    for command, limit in ((history, 20), (status, 3)):
        command.add_argument(
            "--limit", type=count, default=limit, metavar="N", help=f"show at most N runs (default: {limit})"
        )
        command.add_argument(
            "--since",
            type=since,
            metavar="WHEN",
            help="only runs that ended since then: a date, a time, or 7d for 7 days",
        )
    groups.add_run(show)
    show.add_argument("one_table", nargs="?", metavar="TABLE", help="show all facts about this table")
    for command in (status, show):
        groups.add_verbosity(command, quiet=False)
    for command in (status, history, show):
        groups.add_output(command)
        groups.add_places(command, source=False, several=command is status)
