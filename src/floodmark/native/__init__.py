"""The compiled encoder of PostgreSQL's rows, if it was built."""
