"""The block of the suite, languages and chunk size of new boxes."""

import os
from collections.abc import Mapping
from typing import Self

from prefect.blocks.core import Block
from pydantic import Field

from blocks.documents import find_block
from validation.fleet.launch_spec import PREFIX, read_box_environment
from validation.settings import Settings
from validation.worker.chunk.open import validate_settings

BLOCK = "suite"
"""The name of the block document for the box settings that the environment of the control plane lacks."""


class ModelSuite(Block):
    """Settings of new boxes. Holds no secret. Boxes that already run keep their settings."""

    _block_type_name = "Model suite"
    _block_type_slug = "model-suite"

    suite: str = Field(
        "indic", description="The models that score segments: `indic` in production; `local` or `vad` for tests."
    )
    languages: list[str] = Field(
        default_factory=list, description="Only claim videos of these languages (ISO 639 codes); empty means all."
    )
    chunk_videos: int = Field(50, ge=1, le=1000, description="Videos per chunk, and so per shard.")

    def box_environment(self) -> dict[str, str]:
        """The control plane's ``BOX_`` variables for these settings."""
        variables = {"VFLEET_SUITE": self.suite, "PARQUET_SHARD_SIZE": str(self.chunk_videos)}
        if self.languages:
            variables["VFLEET_LANGUAGES"] = ",".join(self.languages)
        return {PREFIX + name: value for name, value in variables.items()}

    def test_connection(self) -> list[str]:
        """Check the suite and languages; returns the variables of new boxes.

        Raises:
            BadInput: the suite or a language is unknown.
        """
        validate_settings(Settings(suite=self.suite, languages=tuple(self.languages)))
        return [f"{name}={value}" for name, value in self.box_environment().items()]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The suite of the environment."""
        return cls(suite=settings.suite, languages=list(settings.languages), chunk_videos=settings.chunk_videos)


def collect_box_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Collect the environment of new boxes: the ``BOX_`` variables, and the block ``suite`` for what they lack.

    Raises:
        BadInput: as ``read_box_environment``.
    """
    block = find_block(ModelSuite, BLOCK)
    return read_box_environment((block.box_environment() if block else {}) | dict(environment))
