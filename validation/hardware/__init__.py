"""The device and the precision of the networks, queries of the GPUs and their driver, and GPU errors."""
