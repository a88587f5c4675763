"""The embedded stack: the services that the fleet needs, on one machine, installed from the package index alone.

The services are Postgres, an S3-compatible store and a Prefect server. Each is a supervised child process, and all
keep their files under one folder; only Postgres, if root starts it, may keep them in `/var/tmp`.
"""
