"""GPUs: devices and precisions, driver and memory, and the errors that libraries raise."""
