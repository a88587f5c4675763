"""`vfleet explore`: a local web page that shows the validation results. DuckDB runs its queries."""
