"""The programs of a box: the bootstrap, the Prefect worker and the chunk runner."""
