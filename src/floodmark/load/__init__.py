"""Loading of landed tables into DuckDB, Parquet files and Glue catalogs."""
