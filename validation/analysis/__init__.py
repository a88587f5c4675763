"""Selections, reports, status and charts: everything that operators and readers look at."""
