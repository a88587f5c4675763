"""The `vast-gpu` worker type. Prefect finds the type in this package by the `prefect.collections` entry point."""

from validation.worker.prefect.worker import VastGpuWorker

__all__ = ["VastGpuWorker"]
