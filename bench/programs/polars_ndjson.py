"""Write the rows of a query with ADBC and Polars as JSON Lines: python polars_ndjson.py URL QUERY FILE."""

from __future__ import annotations

import sys

import polars

url, query, file = sys.argv[1:]
polars.read_database_uri(query, url, engine="adbc").write_ndjson(file, compression="gzip", compression_level=1)
