"""Inline SVG charts and number formatting, for the report and the status page."""
