"""The fixtures live in the fix_* modules beside this file."""

pytest_plugins = [
    "fix_hypothesis",
    "fix_boto",
    "fix_warm",
    "fix_postgres",
    "fix_mariadb",
    "fix_pooler",
    "fix_balancer",
    "fix_prometheus",
    "fix_runs",
    "fix_sql",
    "fix_journal",
    "fix_load",
    "fix_storage",
    "fix_s3_proxy",
    "fix_receiver",
    "fix_receivers",
    "fix_crash",
    "fix_tools",
    "fix_tunnel",
    "fix_linter",
]
