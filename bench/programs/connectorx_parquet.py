"""Write a table with ConnectorX into a Parquet file: python connectorx_parquet.py URL TABLE COLUMN PARTS FILE."""

from __future__ import annotations

import sys

import connectorx
import pyarrow.parquet

url, table, column, parts, file = sys.argv[1:]
rows = connectorx.read_sql(
    url, f"SELECT * FROM {table}", partition_on=column, partition_num=int(parts), return_type="arrow"
)
pyarrow.parquet.write_table(rows, file)
