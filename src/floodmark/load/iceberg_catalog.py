"""Catalogs of Iceberg tables: opened as PyIceberg's own configuration says, with their errors translated.

No secret passes through here: PyIceberg reads tokens and keys from its file and its environment variables, and PyArrow
finds the credentials for S3 as AWS's own tools do. The texts of their errors can hold both, so none is passed on.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.catalog import (  # optional extra
    AVAILABLE_CATALOGS,
    Catalog,
    CatalogType,
    MetastoreCatalog,
    load_catalog,
)
from pyiceberg.exceptions import (  # optional extra
    AuthorizationExpiredError,
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    NoSuchTableError,
    NotInstalledError,
    OAuthError,
    ServerError,
    ServiceUnavailableError,
    TableAlreadyExistsError,
    TooManyRequestsError,
    UnauthorizedError,
    ValidationError,
    ValidationException,
)
from pyiceberg.io import FileIO  # optional extra
from pyiceberg.typedef import Identifier  # optional extra
from pyiceberg.utils.config import Config  # optional extra

from floodmark.errors import (
    ConfigError,
    Conflict,
    FloodmarkError,
    StateUnreadable,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    UsageError,
)
from floodmark.places import bucket_of

# Seconds to wait for a REST catalog's connection, and for its answer.
_PATIENCE = (10.0, 120.0)
# Properties of S3 that hold no credentials. The endpoint must be that of the environment.
_PLAIN_PROPERTIES = {"s3.endpoint", "s3.region", "client.region", "s3.connect-timeout", "s3.request-timeout"}
_FILE_IO = "pyiceberg.io.pyarrow.PyArrowFileIO"
_DEFAULT = "default"
_FILE = "catalog.db"
_FORMS = "Write --catalog NAME (of .pyiceberg.yaml), sqlite:///FILE, https://HOST or glue:, or --warehouse FOLDER."
_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ARROW_CODE = re.compile(r"AWS Error ([A-Z_]+)")
_CONFLICTS = (CommitFailedException, ValidationException, TableAlreadyExistsError, NamespaceAlreadyExistsError)
_REFUSALS = (UnauthorizedError, ForbiddenError, OAuthError, AuthorizationExpiredError, PermissionError)
_OUTAGES = (ServiceUnavailableError, ServerError, TooManyRequestsError, CommitStateUnknownException)
_DENIED = ("ACCESS_DENIED", "AccessDenied", "AccessDeniedException", "InvalidAccessKeyId", "ExpiredTokenException")


def open_catalog(catalog: str | None, warehouse: str | None) -> Catalog:
    """Open the catalog that the options name.

    `catalog` is a name of PyIceberg's configuration, `sqlite:///FILE`, an http(s) address, or `glue:`. Without it, the
    default catalog of the configuration is used. If the configuration has no such catalog, and `warehouse` is a folder,
    it is a SQLite file in that folder. Raises UsageError, ConfigError, StorageError.
    """
    _quieten("pyiceberg")
    AVAILABLE_CATALOGS[CatalogType.REST] = _rest_catalog
    configured = _configured()
    name, given = _properties(catalog, warehouse, configured)
    known: Mapping[str, object] = configured.get_catalog_config(name) or {}
    where = _safe_label(catalog, given)
    with translated("can't open the catalog", where):
        found = {**_aws_properties(known), "py-io-impl": _FILE_IO, **given}
        merged = {key: str(value) for key, value in known.items() if isinstance(value, str)}
        if catalog is not None and _NAME.fullmatch(catalog) and not known:
            raise _unknown(catalog, configured)
        try:
            return load_catalog(name, **{**merged, **found})
        except (ValueError, NoSuchPropertyException, NotInstalledError) as error:
            hint = "Check its type and its URI in .pyiceberg.yaml or PYICEBERG_CATALOG__…."
            why = f"PyIceberg can't use its configuration ({type(error).__name__})"
            raise ConfigError("can't open the catalog", on=where, why=why, hint=hint) from None


def _rest_catalog(name: str, properties: Mapping[str, Any]) -> Catalog:
    """Open a REST catalog. PyIceberg itself would wait without end for one that accepts a request and says nothing."""
    from pyiceberg.catalog.rest import RestCatalog  # noqa: PLC0415 - optional extra

    class ImpatientCatalog(RestCatalog):
        def _config_headers(self, session: Any) -> None:  # the first step with each session
            super()._config_headers(session)
            session.request = partial(session.request, timeout=_PATIENCE)

    return ImpatientCatalog(name, **properties)


def open_namespace(catalog: Catalog, namespace: str) -> Identifier:
    """Return the parts of a namespace's name. Raises UsageError if the catalog can't have such a namespace."""
    parts = Catalog.identifier_to_tuple(namespace)
    if not all(parts) or (len(parts) > 1 and isinstance(catalog, MetastoreCatalog)):
        hint = "Write --into iceberg:NAMESPACE. Only a REST catalog has namespaces within others, with dots."
        raise UsageError("this is not a namespace of this catalog", on=f"iceberg:{namespace}", hint=hint)
    return parts


def catalog_label(catalog: Catalog) -> str:
    """Return the catalog's address without secrets, or its name."""
    uri = str(catalog.properties.get("uri", ""))
    return uri if uri and "@" not in uri and "?" not in uri else catalog.name


def bucket_for_all(io: FileIO, paths: Iterable[str]) -> str | None:
    """Return the bucket that these files are written to, if other machines can write to it too, else None.

    They have only their environment, as boto3 reads it. So a catalog must not hand out or configure any credentials, or
    another endpoint. What it hands out is a secret, and is not passed on.
    """
    own = {name for name in io.properties if name.startswith(("s3.", "client."))} - _PLAIN_PROPERTIES
    buckets = {bucket_of(path) for path in paths}
    plain = not own and io.properties.get("s3.endpoint") in (None, _endpoint())
    return buckets.pop() if plain and len(buckets) == 1 else None


@contextmanager
def translated(what: str, on: str) -> Iterator[None]:
    """Raise the FloodmarkError that matches an error of PyIceberg or of a library below it."""
    try:
        yield
    except FloodmarkError:
        raise
    except Exception as error:
        raise _translation(error, what, on) from None


def _translation(error: Exception, what: str, on: str) -> FloodmarkError:
    kind, library = type(error).__name__, type(error).__module__.partition(".")[0]
    if isinstance(error, _CONFLICTS) or _code(error) == "ConcurrentModificationException":
        hint = "Load again. What was loaded there is intact."
        return Conflict(what, on=on, why="another writer, such as another load, changed it meanwhile", hint=hint)
    if isinstance(error, NoSuchTableError):
        return Conflict(what, on=on, why="another writer dropped or renamed it meanwhile", hint="Load again.")
    if isinstance(error, NoSuchNamespaceError):
        return StorageError(what, on=on, why="the namespace does not exist", hint="Create it, and load again.")
    if isinstance(error, _REFUSALS) or _code(error) in _DENIED:
        hint = "Check the credentials, and their rights to the catalog and to the warehouse."
        return StorageDenied(what, on=on, why=f"access was refused ({_code(error) or kind})", hint=hint)
    if isinstance(error, _OUTAGES) or library == "requests" or _code(error) == "NETWORK_CONNECTION":
        hint = "Load again when it answers. What was loaded there is intact."
        return StorageUnavailable(what, on=on, why=f"it gave no usable answer ({_code(error) or kind})", hint=hint)
    if library == "sqlalchemy":
        return _database_error(error, what, on)
    if isinstance(error, FileNotFoundError):
        hint = "Restore the file, or drop the table from the catalog and load again."
        return StateUnreadable(what, on=on, why="a file of its metadata is missing", hint=hint)
    if isinstance(error, OSError):
        return StorageError(what, on=on, why=_code(error) or (os.strerror(error.errno) if error.errno else kind))
    if isinstance(error, ValidationError) or library.startswith("pydantic"):
        hint = "Restore the metadata file that the catalog names, or drop the table from the catalog and load again."
        return StateUnreadable(what, on=on, why="its metadata is damaged, or of an unknown version", hint=hint)
    return StorageError(what, on=on, why=f"PyIceberg gave {kind}{f' ({_code(error)})' if _code(error) else ''}")


def _database_error(error: Exception, what: str, on: str) -> FloodmarkError:
    text = str(error)
    if type(error).__name__ == "IntegrityError" or "already exists" in text:
        hint = "Load again. What was loaded there is intact."
        return Conflict(what, on=on, why="another writer, such as another load, was first", hint=hint)
    if "locked" in text:
        hint = "Load again when the other process is done. What was loaded there is intact."
        return Conflict(what, on=on, why="another process has the catalog's database locked", hint=hint)
    if "readonly" in text or "denied" in text:
        return StorageDenied(what, on=on, why="the catalog's database can't be written")
    if "unable to open" in text:
        hint = "Check that its folder exists and can be written."
        return ConfigError(what, on=on, why="the catalog's database can't be opened", hint=hint)
    if "not a database" in text or "malformed" in text:
        return ConfigError(what, on=on, why="the file is not a SQLite database", hint="Name a file of its own.")
    return StorageError(what, on=on, why=f"the catalog's database gave {type(error).__name__}")


def _code(error: Exception) -> str | None:
    """Return the error code in AWS's answer, or None without one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", "")) or None
    found = _ARROW_CODE.search(str(error)) if isinstance(error, OSError) else None
    return None if found is None else found[1]


def _quieten(logger: str) -> None:
    """Keep a library's own log lines, and their tracebacks, from the terminal."""
    found = logging.getLogger(logger)
    found.addHandler(logging.NullHandler())
    found.propagate = False


def _configured() -> Config:
    try:
        return Config()
    except Exception as error:
        hint = "Check .pyiceberg.yaml and the variables PYICEBERG_…."
        raise ConfigError("can't read PyIceberg's configuration", why=type(error).__name__, hint=hint) from None


def _properties(catalog: str | None, warehouse: str | None, configured: Config) -> tuple[str, dict[str, str]]:
    """Return the catalog's name and the properties that the options set."""
    place = {} if warehouse is None else {"warehouse": warehouse}
    if catalog is None:
        name = configured.get_default_catalog_name()
        if configured.get_catalog_config(name):
            return name, place
        if warehouse is None or warehouse.startswith("s3://"):
            raise UsageError("--into iceberg:NAMESPACE needs a catalog", hint=_FORMS)
        uri = _sqlite_uri(Path(warehouse) / _FILE)
        try:
            Path(warehouse).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("can't create the warehouse", on=warehouse, why=error.strerror) from None
        return _DEFAULT, {"type": "sql", "uri": uri, **place}
    if catalog == "glue:":
        return _DEFAULT, {"type": "glue", **place}
    if catalog.startswith(("http://", "https://")):
        return _DEFAULT, {"type": "rest", "uri": _bare_address(catalog), **place}
    if catalog.startswith("sqlite:///"):
        file = Path(catalog.removeprefix("sqlite:///")).absolute()
        return _DEFAULT, {"type": "sql", "uri": _sqlite_uri(file), "warehouse": warehouse or str(file.parent)}
    if not _NAME.fullmatch(catalog):
        raise UsageError("this is not a catalog", hint=_FORMS)
    return catalog, place


def _sqlite_uri(file: Path) -> str:
    """Return a file's address. SQLAlchemy would take what follows a question mark for parameters."""
    if "?" in str(file):
        raise UsageError("a SQLite catalog can't have this path", on=str(file), hint="Name a path without a ?.")
    return f"sqlite:///{file}"


def _bare_address(address: str) -> str:
    parts = urlsplit(address)
    if parts.username or parts.password or parts.query or "@" in parts.netloc:
        hint = "Set PYICEBERG_CATALOG__DEFAULT__TOKEN or …__CREDENTIAL, or configure the catalog in .pyiceberg.yaml."
        raise UsageError("--catalog can't hold credentials or parameters", hint=hint)
    return address


def _safe_label(catalog: str | None, given: Mapping[str, str]) -> str:
    return given.get("uri") or catalog or _DEFAULT


def _unknown(catalog: str, configured: Config) -> ConfigError:
    known = ", ".join(sorted(configured.get_known_catalogs())) or "none"
    why = f"PyIceberg's configuration does not have it (known: {known})"
    hint = f"Define it in .pyiceberg.yaml, or by variables such as PYICEBERG_CATALOG__{catalog.upper()}__URI."
    return ConfigError("can't open the catalog", on=catalog, why=why, hint=hint)


def _aws_properties(known: Mapping[str, object]) -> dict[str, str]:
    """Return S3's region and endpoint from the environment, unless PyIceberg's configuration sets them.

    PyArrow does not read these variables, and would ask the bucket for its region.
    """
    found = {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = _endpoint()
    if region and not {"s3.region", "client.region"} & known.keys():
        found["s3.region"] = region
    if endpoint and "s3.endpoint" not in known:
        found["s3.endpoint"] = endpoint
    return found


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
