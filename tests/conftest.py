"""The fixtures live in the fix_* modules beside this file."""

pytest_plugins = ["fix_postgres", "fix_storage"]
