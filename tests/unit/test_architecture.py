"""The direction of imports: which module may know which, in one place.

`LAYERS` is the table of modules in docs/architecture.md, from what everything stands on to what people type. A
module imports only from layers above its own in this list, and from its own layer only where that is one package.
A new module or package must be placed here, or the test fails. Names that do not exist yet keep their places.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
ARCHITECTURE = (Path(__file__).parents[2] / "docs/architecture.md").read_text(encoding="utf-8")

LAYERS: tuple[tuple[str, ...], ...] = (
    ("floodmark.version",),
    ("floodmark.errors", "floodmark.lineage"),
    ("floodmark.model",),
    ("floodmark.observed",),
    (
        "floodmark.stop",
        "floodmark.events",
        "floodmark.wording",
        "floodmark.escaping",
        "floodmark.layout",
        "floodmark.places",
        "floodmark.native",
    ),
    ("floodmark.retrying", "floodmark.meter"),
    ("floodmark.engine",),
    ("floodmark.config",),
    ("floodmark.storage", "floodmark.topics"),
    ("floodmark.objects",),
    ("floodmark.state",),
    ("floodmark.source",),
    ("floodmark.journal",),
    ("floodmark.contract",),
    ("floodmark.pipeline.columns",),
    ("floodmark.differences",),
    ("floodmark.pipeline.remembered",),
    ("floodmark.pipeline.chunks",),
    ("floodmark.pipeline.plans",),
    ("floodmark.pipeline.blocks",),
    ("floodmark.pipeline.detect",),
    ("floodmark.pipeline.losses",),
    ("floodmark.pipeline.entries",),
    ("floodmark.pipeline.resume", "floodmark.pipeline.stopped", "floodmark.pipeline.landing"),
    ("floodmark.backends",),
    ("floodmark.pipeline.audit_budget",),
    ("floodmark.pipeline.work",),
    ("floodmark.pipeline.attempt",),
    ("floodmark.pipeline.extract",),
    ("floodmark.pipeline.remote",),
    ("floodmark.pipeline.dispatch",),
    ("floodmark.pipeline.observe", "floodmark.pipeline.audit"),
    ("floodmark.pipeline.run_counts",),
    ("floodmark.pipeline.session",),
    ("floodmark.pipeline.guards", "floodmark.pipeline.terms"),
    ("floodmark.pipeline.snapshot", "floodmark.pipeline.publish"),
    ("floodmark.pipeline.complete",),
    ("floodmark.pipeline.job",),
    ("floodmark.verify", "floodmark.prune"),
    ("floodmark.reader",),
    ("floodmark.load", "floodmark.deliver"),
    ("floodmark.report",),
    ("floodmark.metrics", "floodmark.notify", "floodmark.openlineage"),
    ("floodmark.demo", "floodmark.doctor"),
    ("floodmark",),  # the public API
    ("floodmark.cli",),
    ("floodmark.__main__",),
)

# What a module may not know although it comes later in the line: two ends that only the middle brings together.
STRANGERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("floodmark.pipeline.remembered", ("floodmark.config", "floodmark.storage", "floodmark.state", "floodmark.source")),
    ("floodmark.pipeline.plans", ("floodmark.config", "floodmark.storage", "floodmark.state", "floodmark.source")),
    ("floodmark.pipeline.blocks", ("floodmark.config", "floodmark.storage", "floodmark.state", "floodmark.source")),
    ("floodmark.pipeline.detect", ("floodmark.config", "floodmark.storage", "floodmark.state", "floodmark.source")),
    ("floodmark.source", ("floodmark.storage", "floodmark.state", "floodmark.events")),
    ("floodmark.source.postgres", ("floodmark.source.sql",)),
    ("floodmark.source.sql", ("floodmark.source.postgres",)),
    ("floodmark.state", ("floodmark.config", "floodmark.storage.s3", "floodmark.storage.local")),
    ("floodmark.storage", ("floodmark.config", "floodmark.layout", "floodmark.model", "floodmark.observed")),
    ("floodmark.reader", ("floodmark.source", "floodmark.pipeline")),
    ("floodmark.load", ("floodmark.source", "floodmark.pipeline")),
    ("floodmark.deliver", ("floodmark.source", "floodmark.pipeline")),
    ("floodmark.notify", ("floodmark.storage", "floodmark.source.postgres", "floodmark.source.sql")),
    ("floodmark.report", ("floodmark.config", "floodmark.source", "floodmark.storage.s3", "floodmark.storage.local")),
    ("floodmark.topics", ("floodmark.config", "floodmark.storage", "floodmark.model", "floodmark.observed")),
)

# Other people's libraries, each known to few: a driver's errors are translated where it is imported.
VENDORS: dict[str, tuple[str, ...]] = {
    "psycopg": ("floodmark.source.postgres", "floodmark.journal", "floodmark.demo", "floodmark.doctor"),
    "sqlalchemy": ("floodmark.source", "floodmark.config.urls", "floodmark.journal", "floodmark.doctor"),
    "pymysql": ("floodmark.source.mysql", "floodmark.demo", "floodmark.doctor"),
    "alembic": ("floodmark.journal.migrate",),
    "sqlite3": ("floodmark.source.sql",),
    "boto3": ("floodmark.storage", "floodmark.load", "floodmark.doctor", "floodmark.topics"),
    "botocore": ("floodmark.storage", "floodmark.load", "floodmark.doctor", "floodmark.topics"),
    "apprise": ("floodmark.notify.channels.people",),
    "openlineage": ("floodmark.openlineage",),
    "jinja2": ("floodmark.report",),
    "vl_convert": ("floodmark.report",),
    "requests": ("floodmark.openlineage",),
    "yaml": ("floodmark.config", "floodmark.reader.dbt"),
    "rich": ("floodmark.cli", "floodmark.demo"),
    "tenacity": ("floodmark.retrying",),
    "rich_argparse": ("floodmark.cli",),
    "shtab": ("floodmark.cli",),
    "prometheus_client": ("floodmark.metrics",),
    "duckdb": ("floodmark.reader", "floodmark.load"),
    "pyarrow": ("floodmark.reader", "floodmark.load"),
    "distributed": ("floodmark.engine",),
    "pyiceberg": ("floodmark.reader.extras", "floodmark.load"),
}

# What stands inside a function says why: an extra that may be missing, or something heavy that few runs need.
MARKED = re.compile(r"# noqa: PLC0415 - (optional extra$|by need)")


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted((SOURCE / "floodmark").rglob("*.py"))}
# The package itself holds a docstring alone. Its modules have a place each, so that the order of a run is enforced.
del MODULES["floodmark.pipeline"]


def within(module: str, package: str) -> bool:
    return module == package or (package != "floodmark" and module.startswith(f"{package}."))


def imported(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Every import in a module, wherever it stands, with the whole name of what it brings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node, whole if whole in MODULES else node.module


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


IMPORTS = {module: {name for _, name in imported(tree_of(module))} for module in MODULES}
OURS = {module: {name for name in names if name in MODULES} for module, names in IMPORTS.items()}


def reached(module: str) -> set[str]:
    """The module and all of ours that importing it brings in."""
    found, todo = {module}, [module]
    while todo:
        new = OURS[todo.pop()] - found
        found |= new
        todo += new
    return found


def layer_of(module: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if any(within(module, place) for place in layer)]
    assert len(found) == 1, (
        f"{module} must stand in exactly one layer of LAYERS: docs/architecture.md says what each is"
    )
    return found[0]


def place_of(module: str) -> str:
    (found,) = [place for place in LAYERS[layer_of(module)] if within(module, place)]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_above_it(module: str) -> None:
    own = layer_of(module)
    for other in OURS[module]:
        fine = layer_of(other) < own or place_of(other) == place_of(module)
        assert fine, f"{module} imports {other}, which stands in a later layer, or beside it"


def test_no_import_goes_in_a_circle() -> None:
    try:
        tuple(TopologicalSorter(OURS).static_order())
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' → '.join(error.args[1])}") from None


@pytest.mark.parametrize(("module", "strangers"), STRANGERS, ids=[name for name, _ in STRANGERS])
def test_the_ends_that_only_the_middle_brings_together_do_not_know_each_other(
    module: str, strangers: tuple[str, ...]
) -> None:
    for one in MODULES:
        if within(one, module):
            known = {other for other in OURS[one] for stranger in strangers if within(other, stranger)}
            assert not known, f"{one} should not know {sorted(known)}"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_library_is_known_only_where_its_errors_are_translated(vendor: str) -> None:
    who = {module for module, names in IMPORTS.items() if any(within(name, vendor) for name in names)}
    allowed = {module for module in MODULES for place in VENDORS[vendor] if within(module, place)}
    assert who <= allowed, f"{sorted(who - allowed)} should not import {vendor}"


@pytest.mark.parametrize("module", ["floodmark.state", "floodmark.storage", "floodmark.reader", "floodmark.load"])
def test_reading_what_was_landed_needs_no_database_driver(module: str) -> None:
    for one in (one for one in MODULES if within(one, module)):
        needed = {name.partition(".")[0] for other in reached(one) for name in IMPORTS[other]}
        assert not needed & {"psycopg", "sqlalchemy"}, f"importing {one} brings in a database driver"


def test_only_what_is_optional_or_heavy_is_imported_inside_a_function() -> None:
    """The direction and the circles are judged above, wherever an import stands; so none can dodge them here."""
    for module in MODULES:
        lines = MODULES[module].read_text(encoding="utf-8").splitlines()
        for function in ast.walk(tree_of(module)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                for node, name in imported(function):
                    inside = f"{module} imports {name} inside {getattr(function, 'name', 'a lambda')}"
                    assert MARKED.search(lines[node.lineno - 1]), f"{inside}, and does not say why"


def test_only_one_module_formats_iso_times() -> None:
    found = [name for name, path in MODULES.items() if ".isoformat(" in path.read_text(encoding="utf-8")]
    assert found == ["floodmark.wording"], "use wording.iso_time"


def test_no_text_counts_things_without_the_function_that_knows_one_from_many() -> None:
    """An f-string with a number before a plural noun says "1 tables" one day: use wording.plural."""
    nouns = "tables|chunks|columns|objects|rows|lines|files|sessions|connections|partitions|problems|keys|arguments"
    counted = re.compile(rf"\0 ({nouns})\b")
    found = []
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                text = "".join(map(str, parts))
                found += [f"{module}: {text}"] if counted.search(text) else []
    assert found == []


def test_the_document_shows_every_place_and_no_other() -> None:
    """The table in docs/architecture.md names each place that exists, in the order of LAYERS."""
    described = re.findall(r"^\| `([a-z_/]+?)(?:\.py|/)` \|", ARCHITECTURE, re.MULTILINE)
    places = [place for layer in LAYERS for place in layer if place not in ("floodmark", "floodmark.__main__")]
    exist = [place.removeprefix("floodmark.").replace(".", "/") for place in places]
    assert described == exist


def test_the_walk_in_the_document_names_what_exists() -> None:
    """Each step names a file and a function or class in it: "`pipeline/job.py`, `run`"."""
    walk = ARCHITECTURE.split("## One chunk", 1)[1].split("\n## ", 1)[0]
    named = re.findall(r"`([a-z_/]+)\.py`,\s+`([A-Za-z_.]+)`", walk)
    assert len(named) > 15
    for file, name in named:
        found: object = import_module(f"floodmark.{file.replace('/', '.')}")
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), f"{file}.py has no {name}"
