"""Write a table with dlt as JSON Lines: python dlt_jsonl.py URL TABLE FOLDER WORKERS.

dlt's documentation recommends the pyarrow backend for large tables, processes for its normalize step, and a limit of
rows per file, without which there is one file and so one process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dlt
from dlt.sources.sql_database import sql_table

ROWS_A_FILE = 100_000

if __name__ == "__main__":  # its workers import this file
    url, table, folder, workers = sys.argv[1:]
    dlt.config["normalize.workers"] = int(workers)
    dlt.config["extract.data_writer.file_max_items"] = ROWS_A_FILE
    dlt.config["normalize.data_writer.file_max_items"] = ROWS_A_FILE
    dlt.config["runtime.dlthub_telemetry"] = False
    dlt.config["runtime.log_level"] = "ERROR"
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=f"{folder}/work",
        destination=dlt.destinations.filesystem(bucket_url=Path(folder, "landing").as_uri()),
        dataset_name="data",
    )
    rows = sql_table(credentials=url, table=table, backend="pyarrow", chunk_size=50_000)
    pipeline.run(rows, loader_file_format="jsonl", write_disposition="replace")
