"""Prefect tasks: each task calls one function of the package ``validation``, with a retry policy."""
