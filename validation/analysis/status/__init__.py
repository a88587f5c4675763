"""The fleet's status: progress, rate, cost and problems, as text for a terminal, as a page, as charts and as JSON."""
