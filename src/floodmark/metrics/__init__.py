"""Prometheus metrics about runs and the freshness of each table. All outputs use the same names.

`catalogue` names every metric, `known` reads the ledger, and `values` turns its facts into values. `exposition`,
`server`, `outputs` and `exporter` publish them. See docs/metrics.md.
"""
