"""GPUs: devices, drivers, errors and pinned memory."""
