"""`vfleet explore`: a local web page over the results, on DuckDB."""
