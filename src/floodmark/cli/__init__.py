"""The command line: parse, call a command, render its result, and map an error to its exit code."""
