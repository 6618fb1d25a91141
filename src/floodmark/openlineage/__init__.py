"""Events in OpenLineage's form about runs, sent by its own client: which tables a run read, and what it wrote."""
