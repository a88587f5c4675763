"""The `vast-gpu` worker type: Prefect finds it here by the `prefect.collections` entry point."""

from validation.worker.prefect.worker import VastGpuWorker

__all__ = ["VastGpuWorker"]
