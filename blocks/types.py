"""The block types of the fleet: `prefect block register --module blocks.types`, as `vfleet bootstrap` does."""

from blocks.database import ValidationDatabase
from blocks.suite import ModelSuite
from blocks.vast import VastCredentials

__all__ = ["ModelSuite", "ValidationDatabase", "VastCredentials"]
