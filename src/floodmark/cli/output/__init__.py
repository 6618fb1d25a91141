"""Everything that the commands print: data on stdout, and progress, logs and errors on stderr."""
