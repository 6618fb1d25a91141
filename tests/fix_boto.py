"""boto3 that reads its models once a process, not once a session: 45 % of a test of many loads was the reading.

botocore shares a loader among the clients of one session already. Nothing in it knows of endpoints or credentials.
"""

from __future__ import annotations

from functools import cache

import botocore.session
from boto3.session import Session
from botocore.loaders import create_loader


def share_models() -> None:
    """From here on all sessions of this process share what botocore has read of its own files."""
    botocore.session.create_loader = cache(create_loader)


def warm() -> None:
    """Read what a client for S3 needs, so that forks of this process need not."""
    session = Session("no one", "no secret", region_name="eu-west-2")
    session.client("s3", endpoint_url="http://127.0.0.1:9")


share_models()
