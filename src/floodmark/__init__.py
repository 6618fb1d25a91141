"""Floodmark lands a database in S3 every night, moving only what changed and proving the rest unchanged."""

__version__ = "0.2.0"
