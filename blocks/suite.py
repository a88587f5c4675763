"""What boxes ask of the speech: which models, about which languages, how much at a time."""

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
"""The name of the block document that fills in what the control plane's environment does not tell boxes."""


class ModelSuite(Block):
    """What new boxes are told about their work. Holds no secret. Boxes that run already keep what they were told."""

    _block_type_name = "Model suite"
    _block_type_slug = "model-suite"

    suite: str = Field(
        "indic", description="Which models answer: `indic` in production; `local`, `vad` to try things out."
    )
    languages: list[str] = Field(
        default_factory=list, description="Only claim videos of these languages (ISO 639 codes); empty means all."
    )
    chunk_videos: int = Field(50, ge=1, le=1000, description="Videos a chunk, and so a shard.")

    def box_environment(self) -> dict[str, str]:
        """The variables of the control plane that tell boxes so."""
        told = {"VFLEET_SUITE": self.suite, "PARQUET_SHARD_SIZE": str(self.chunk_videos)}
        if self.languages:
            told["VFLEET_LANGUAGES"] = ",".join(self.languages)
        return {PREFIX + name: value for name, value in told.items()}

    def test_connection(self) -> list[str]:
        """Say what boxes will be told.

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
    """Collect what every box is told: the environment's ``BOX_`` variables, and the block ``suite`` for what they lack.

    Raises:
        BadInput: as ``read_box_environment``.
    """
    block = find_block(ModelSuite, BLOCK)
    return read_box_environment((block.box_environment() if block else {}) | dict(environment))
