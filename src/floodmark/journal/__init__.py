"""The change journal in a PostgreSQL source: its migrations, its triggers, and what is installed."""
