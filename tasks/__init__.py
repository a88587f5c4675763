"""Prefect tasks with their retry policies. The work of the tasks is done by functions of the package ``validation``."""
