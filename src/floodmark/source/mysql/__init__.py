"""MariaDB and MySQL as a source: the dialect, and what it knows about snapshots, names, values and errors."""
