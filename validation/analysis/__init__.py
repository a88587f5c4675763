"""Analyse the results: selections, exports, reports, status pages, charts and the explore page."""
