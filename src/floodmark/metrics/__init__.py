"""What a run did, and how fresh each table is, as Prometheus metrics: the same names in every way out.

`catalogue` names every metric, `known` says what the ledger tells, `values` makes values of it; `exposition`,
`server`, `ways_out` and `exporter` bring them to whoever asks. See docs/metrics.md.
"""
