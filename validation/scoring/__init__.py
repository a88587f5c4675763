"""Pure functions that compute the signals of a segment, and a verdict from the signals."""
