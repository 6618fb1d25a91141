"""`floodmark cat`: write the rows of one table to stdout, each object only after it was verified."""

from __future__ import annotations

import argparse
from contextlib import closing

from floodmark.cli.landed import chosen_snapshot, landed_settings, named_snapshot_table
from floodmark.cli.output.streams import CommandStreams
from floodmark.errors import EXIT_OK
from floodmark.reader.export import exported


def cat(options: argparse.Namespace, streams: CommandStreams) -> int:
    """Write the rows, until all are written or the reader closes its end."""
    snapshot = chosen_snapshot(landed_settings(options, streams), streams.report_retry, options.run)
    table = named_snapshot_table(options.one_table, snapshot)
    rows = exported(table, snapshot.data, options.row_format, options.limit, streams.report_retry)
    with closing(rows):
        for block in rows:
            streams.out.write_rows(block)
            if streams.out.gone:
                break
    return EXIT_OK
