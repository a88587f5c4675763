"""The embedded stack: everything the fleet needs around it, on one machine, from the package index alone.

Postgres, an S3-compatible store and a Prefect server, each a supervised child process under one folder.
"""
