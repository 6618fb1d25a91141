"""Places of data, state and deliveries. A folder is inspected; S3 gets only requests that leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from boto3.session import Session

from floodmark.config import Settings
from floodmark.doctor import s3
from floodmark.doctor.finding import Finding, of_error, ok, problem
from floodmark.doctor.s3_client import S3Place, boto_session
from floodmark.errors import FloodmarkError, StorageError
from floodmark.layout import LAYOUTS
from floodmark.objects.compression import compressor
from floodmark.places import bucket_of
from floodmark.storage import StorageOptions


def check_places(settings: Settings) -> Iterator[Finding]:
    """Check destination, state and deliveries, each by itself, because rights can differ by prefix."""
    chosen = settings.destination
    try:
        compressor(chosen.compression)
        urls = [chosen.url, settings.state_url or "", *(one.url for one in settings.deliver)]
        session = boto_session() if any(map(bucket_of, urls)) else None
    except FloodmarkError as error:
        yield of_error("destination", error)
        return
    stays = LAYOUTS[chosen.layout].objects_stay
    options = StorageOptions(acl=chosen.acl, sse=chosen.sse, kms_key_id=chosen.kms_key_id, conditional=stays)
    yield from _check_place("destination", chosen.url, options, chosen.allow_unconditional_writes, session)
    if settings.state_url is not None:
        own = StorageOptions(sse=chosen.sse, kms_key_id=chosen.kms_key_id) if stays else StorageOptions()
        yield from _check_place("state", settings.state_url, own, chosen.allow_unconditional_writes, session)
    for one in settings.deliver:  # only with puts
        sent = StorageOptions(acl=one.acl, sse=one.sse, kms_key_id=one.kms_key_id, conditional=False)
        yield from _check_place(f"deliver {one.name}", one.url, sent, True, session)


def _check_place(
    name: str, url: str, options: StorageOptions, unconditional: bool, session: Session | None
) -> Iterator[Finding]:
    if session is None or bucket_of(url) is None:
        yield _check_folder(name, url)
    elif options.conditional:
        yield from s3.probe_place(S3Place(name, url, options, session), unconditional)
    else:
        yield from s3.inspect_landing_zone(S3Place(name, url, options, session))


def _check_folder(name: str, url: str) -> Finding:
    """Check a folder by its permissions only. Nothing is written."""
    path = Path(url).absolute()
    existing = next(one for one in (path, *path.parents) if one.exists())
    if not existing.is_dir():
        return problem(
            name,
            f"{existing} is not a folder",
            f"Correct the url of {name}, or remove the file.",
            StorageError.exit_code,
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        fix = f"Let the user that runs Floodmark write there, or correct the url of {name}."
        return problem(name, f"the folder {existing} can't be written to", fix, StorageError.exit_code)
    return ok(name, f"the folder {path} " + ("can be written to" if existing == path else f"can be made in {existing}"))
