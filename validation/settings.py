"""What a box or a control plane is told from outside. The environment is the only source."""

import os
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from validation.errors import BadInput

BEATS_A_LEASE = 2.5
"""Two heartbeats, each a quarter late, come within a lease: one may be lost."""


def default_worker_id() -> str:
    """Name this box: the rented machine's id where there is one, else the host's name."""
    rented = os.environ.get("CONTAINER_ID") or os.environ.get("VAST_CONTAINERLABEL")
    return rented or f"val-{socket.gethostname()}"


class Settings(BaseSettings):
    """Settings of one process. Field descriptions are the reference that the README points to."""

    model_config = SettingsConfigDict(env_prefix="VFLEET_", extra="ignore", populate_by_name=True)

    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DATABASE_URL", "VFLEET_DATABASE_URL"),
        description="Postgres, as postgresql://user:password@host:port/database. Safe behind a transaction pooler.",
    )
    source_url: str = Field("s3://transcribed", description="Where the tars are: s3://bucket/prefix or file:///folder.")
    source_key: str = Field("{video_id}.tar", description="A video's object key under source_url.")
    results_url: str = Field("s3://validation-results", description="Where shards go: s3://bucket or file:///folder.")
    s3_endpoint_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("R2_ENDPOINT_URL", "VFLEET_S3_ENDPOINT_URL"),
        description="The object store's address, for R2 https://<account>.r2.cloudflarestorage.com.",
    )
    s3_access_key_id: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("R2_ACCESS_KEY_ID", "VFLEET_S3_ACCESS_KEY_ID")
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("R2_SECRET_ACCESS_KEY", "VFLEET_S3_SECRET_ACCESS_KEY")
    )
    s3_session_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("R2_SESSION_TOKEN", "VFLEET_S3_SESSION_TOKEN")
    )
    box_key: SecretStr | None = Field(
        default=None,
        description="Says which machine this is: the ledger then lends it what opens the stores, unless it has keys. "
        "A rented box is given one; `vfleet box add` gives one to any other machine.",
    )
    gateway_tokens: Path | None = Field(
        default=None,
        description="The token file of the boxes' gateway. With it the control plane gives each machine that it rents "
        "a token of its own, which ends with the rental; the control plane's alone.",
    )
    cloudflare_api_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("CLOUDFLARE_API_TOKEN", "VFLEET_CLOUDFLARE_API_TOKEN"),
        description="The R2 token of which R2_ACCESS_KEY_ID is a part. With it the control plane lends each box "
        "credentials of its own, for hours; the control plane's alone.",
    )
    cloudflare_account_id: str = Field(
        "",
        validation_alias=AliasChoices("CLOUDFLARE_ACCOUNT_ID", "VFLEET_CLOUDFLARE_ACCOUNT_ID"),
        description="Whose buckets they are: the first part of the R2 address.",
    )
    cloudflare_url: str = Field("https://api.cloudflare.com", description="Where Cloudflare's API is; a fake in tests.")
    s3_region: str = Field("auto", description="R2 knows one region, `auto`.")

    vast_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("VAST_API_KEY", "VFLEET_VAST_API_KEY"),
        description="Key of the Vast.ai account that rents. The control plane's alone: no box ever holds it.",
    )
    vast_url: str = Field(
        "https://console.vast.ai",
        validation_alias=AliasChoices("VAST_URL", "VFLEET_VAST_URL"),
        description="Where the Vast.ai API is; a fake in tests.",
    )

    worker_id: str = Field(
        default_factory=default_worker_id,
        validation_alias=AliasChoices("WORKER_ID", "VFLEET_WORKER_ID"),
        description="Stable across restarts of one box: WORKER_ID, else the rented machine's id, else the host's name.",
    )
    gpu_type: str | None = Field(default=None, validation_alias=AliasChoices("GPU_TYPE", "VFLEET_GPU_TYPE"))

    suite: str = Field("local", description="Which models answer: `local`, or `indic` in production.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the suite `indic` computes: `cuda` refuses to start without a card."
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="Weights of its large networks: by default float16 on a card, float32 on a CPU."
    )
    conformer_engine: Literal["onnx", "torch"] = Field(
        "onnx", description="What runs IndicConformer: ONNX Runtime in float32, or torch in VFLEET_PRECISION."
    )
    weights: Path | None = Field(
        default=None, description="Where weights lie that no package carries: a folder a model. Never fetched."
    )
    weights_lock: Path | None = Field(
        default=None, description="What their bytes must be; weights.lock in that folder by default."
    )
    languages: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Only claim videos of these languages, comma-separated; empty means all."
    )
    chunk_videos: int = Field(
        50,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("PARQUET_SHARD_SIZE", "VFLEET_CHUNK_VIDEOS"),
        description="Videos a chunk, and so a shard.",
    )
    conformer_batch_size: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("CONFORMER_BATCH_SIZE", "VFLEET_CONFORMER_BATCH_SIZE"),
        description="Accepted and checked, and of no effect: batches hold as many padded seconds as the card bears.",
    )
    group_videos: int = Field(10, ge=1, description="Videos a task run: 10 keeps a chunk near 15 task runs.")
    look_ahead_videos: int = Field(20, ge=1, description="How many videos may wait decoded while others are scored.")
    look_ahead_bytes: int = Field(
        2 << 30, ge=1, description="How many bytes of decoded audio may wait; one video may overshoot it a fetcher."
    )
    fetchers: int = Field(8, ge=1, description="Downloads at a time. Eight draw 5-6 times what one draws from R2.")
    lease_s: int = Field(75, ge=10, le=3600, description="A chunk that no heartbeat renewed for so long is swept.")
    heartbeat_s: int = Field(
        25,
        ge=1,
        validate_default=True,
        description="Seconds between heartbeats, give or take a quarter: at most two fifths of the lease.",
    )
    drain_grace_s: int = Field(
        120,
        ge=0,
        description="Seconds after a SIGTERM in which running chunks may finish the video in hand and commit.",
    )
    max_attempts: int = Field(
        3, ge=1, description="Claims that may end in a video's transient failure before it is given up."
    )

    @field_validator("languages", mode="before")
    @classmethod
    def _split_languages(cls, value: object) -> object:
        return [code.strip() for code in value.split(",") if code.strip()] if isinstance(value, str) else value

    @field_validator("heartbeat_s")
    @classmethod
    def _beat_twice_a_lease(cls, heartbeat_s: int, others: ValidationInfo) -> int:
        lease_s = others.data.get("lease_s")  # absent where it is itself refused
        if lease_s is not None and lease_s < BEATS_A_LEASE * heartbeat_s:
            raise ValueError(
                f"must be at most {int(lease_s / BEATS_A_LEASE)} with a lease_s of {lease_s}, which has to outlast one "
                "heartbeat that is lost"
            )
        return heartbeat_s

    @field_validator("source_key")
    @classmethod
    def _name_the_video(cls, template: str) -> str:
        if template.replace("{video_id}", "").count("{") or "{video_id}" not in template:
            raise ValueError("must contain {video_id} and no other placeholder")
        return template


def load_settings() -> Settings:
    """Read the environment as it is now.

    Raises:
        BadInput: a variable has a value that its setting refuses; the sentence names both.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"setting {where} is {first['input']!r}: {first['msg'].lower()}") from None
