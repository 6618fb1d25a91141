"""A change-aware extractor, which lands a database in S3 every night: it moves what changed and proves the rest."""

__version__ = "0.2.0"
