"""What runs on a box: the bootstrap, the Prefect worker and the chunk runner."""
