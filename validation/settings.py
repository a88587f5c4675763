"""The settings of a process. They are read only from environment variables; `docs/configuration.md` lists them."""

import os
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, JsonValue, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from validation.errors import BadInput

MIN_LEASE_HEARTBEATS = 2.5
"""Minimum length of a lease, in heartbeat intervals. Two intervals, each a quarter longer, fit into such a lease, so
the lease survives one lost heartbeat."""
BOX: dict[str, JsonValue] = {"used_on": "box"}
CONTROL: dict[str, JsonValue] = {"used_on": "control machine"}
EVERYWHERE: dict[str, JsonValue] = {"used_on": "both"}
"""The machines on which a setting is read (``BOX``, ``CONTROL``, ``EVERYWHERE``): a column of the documentation."""


def default_worker_id() -> str:
    """Return the vendor's instance id on a rented box, else ``val-<host name>``."""
    rented = os.environ.get("CONTAINER_ID") or os.environ.get("VAST_CONTAINERLABEL")
    return rented or f"val-{socket.gethostname()}"


class Settings(BaseSettings):
    """The settings of one process. `docs/configuration.md` shows the description of each field."""

    model_config = SettingsConfigDict(env_prefix="VFLEET_", extra="ignore", populate_by_name=True)

    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DATABASE_URL", "VFLEET_DATABASE_URL"),
        json_schema_extra=EVERYWHERE,
        description="Address of the ledger, a Postgres database: postgresql://user:password@host:port/database. A "
        "transaction pooler in front of it is fine. Percent-encode special characters of the password (@ is %40).",
    )
    source_url: str = Field(
        "s3://transcribed",
        json_schema_extra=EVERYWHERE,
        description="Where the tars of the videos are: s3://bucket/prefix or file:///folder.",
    )
    source_key: str = Field(
        "{video_id}.tar",
        json_schema_extra=EVERYWHERE,
        description="Object key of a video's tar below VFLEET_SOURCE_URL. Must contain {video_id}.",
    )
    results_url: str = Field(
        "s3://validation-results",
        json_schema_extra=EVERYWHERE,
        description="Where shards are written: s3://bucket/prefix or file:///folder.",
    )
    s3_endpoint_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("R2_ENDPOINT_URL", "VFLEET_S3_ENDPOINT_URL"),
        json_schema_extra=EVERYWHERE,
        description="Address of the object store, without a bucket. For R2: https://<account>.r2.cloudflarestorage.com.",
    )
    s3_access_key_id: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("R2_ACCESS_KEY_ID", "VFLEET_S3_ACCESS_KEY_ID"),
        json_schema_extra=EVERYWHERE,
        description="Access key of the object store. A box with a box key needs none: the control machine issues it "
        "temporary credentials.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("R2_SECRET_ACCESS_KEY", "VFLEET_S3_SECRET_ACCESS_KEY"),
        json_schema_extra=EVERYWHERE,
        description="Secret of R2_ACCESS_KEY_ID.",
    )
    s3_session_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("R2_SESSION_TOKEN", "VFLEET_S3_SESSION_TOKEN"),
        json_schema_extra=EVERYWHERE,
        description="Session token, where R2_ACCESS_KEY_ID is a temporary key. A token that is set by hand is not "
        "renewed.",
    )
    s3_region: str = Field(
        "auto", json_schema_extra=EVERYWHERE, description="Region of the object store. R2 has one: auto."
    )
    box_key: SecretStr | None = Field(
        default=None,
        json_schema_extra=BOX,
        description="Secret by which the ledger recognises this box and issues it store credentials. Rented boxes get "
        "one; `vfleet box add` creates one for any other box.",
    )
    worker_id: str = Field(
        default_factory=default_worker_id,
        validation_alias=AliasChoices("WORKER_ID", "VFLEET_WORKER_ID"),
        json_schema_extra=BOX | {"default_text": "the vendor's instance id, else val-<host name>"},
        description="Name of this box in the ledger and in shard paths. Must stay the same across restarts.",
    )
    gpu_type: str | None = Field(
        default=None,
        validation_alias=AliasChoices("GPU_TYPE", "VFLEET_GPU_TYPE"),
        json_schema_extra=BOX,
        description="GPU that was ordered, such as RTX_3090. A box with another GPU refuses to start.",
    )

    suite: str = Field(
        "local",
        json_schema_extra=EVERYWHERE,
        description="Which models score the segments: indic in production, local for small models on a CPU.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        json_schema_extra=BOX,
        description="Where suite indic computes. With cuda a box without a usable GPU refuses to start; auto takes the "
        "GPU if there is one.",
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        json_schema_extra=BOX,
        description="Precision of the large networks of suite indic. auto is float16 on a GPU and float32 on a CPU.",
    )
    conformer_engine: Literal["auto", "onnx", "torch"] = Field(
        "auto",
        json_schema_extra=BOX,
        description="What runs IndicConformer: ONNX Runtime (always float32) or torch (at VFLEET_PRECISION). auto is "
        "torch on a GPU and ONNX Runtime on a CPU.",
    )
    compile_layers: Literal["auto", "on", "off"] = Field(
        "auto",
        json_schema_extra=BOX,
        description="Whether torch compiles the layers of MMS-LID and IndicConformer at the start of the inference "
        "server. auto compiles on a GPU if a C compiler and triton are installed. The code is kept in "
        "~/.cache/validation-fleet/compiled.",
    )
    weights: Path | None = Field(
        default=None,
        json_schema_extra=BOX,
        description="Folder with the weights that no Python package brings, one folder per model. Weights are never "
        "downloaded at run time.",
    )
    weights_lock: Path | None = Field(
        default=None,
        json_schema_extra=BOX | {"default_text": "weights.lock in VFLEET_WEIGHTS"},
        description="File with the expected hashes of the weights; see `vfleet weights lock`.",
    )
    languages: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        json_schema_extra=BOX | {"default_text": "all languages"},
        description="Claim only videos of these languages, comma-separated.",
    )
    chunk_videos: int = Field(
        50,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("PARQUET_SHARD_SIZE", "VFLEET_CHUNK_VIDEOS"),
        json_schema_extra=EVERYWHERE,
        description="Videos per chunk, and so per shard.",
    )
    conformer_batch_size: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("CONFORMER_BATCH_SIZE", "VFLEET_CONFORMER_BATCH_SIZE"),
        json_schema_extra=BOX,
        description="Accepted and checked, without effect: a batch holds as many padded seconds of audio as the GPU's "
        "memory allows.",
    )
    group_videos: int = Field(
        10,
        ge=1,
        json_schema_extra=BOX,
        description="Videos per task run. With 10, a chunk of 50 makes 13 task runs.",
    )
    look_ahead_videos: int = Field(
        20, ge=1, json_schema_extra=BOX, description="Maximum number of decoded videos that wait to be scored."
    )
    look_ahead_bytes: int = Field(
        2 << 30,
        ge=1,
        json_schema_extra=BOX,
        description="Maximum bytes of decoded audio that wait to be scored. Each fetcher may exceed it by one video.",
    )
    fetchers: int = Field(
        8,
        ge=1,
        json_schema_extra=BOX,
        description="Simultaneous downloads. Eight have 5 to 6 times the throughput of one from R2.",
    )
    lease_s: int = Field(
        75,
        ge=10,
        le=3600,
        json_schema_extra=BOX,
        description="Seconds without a renewal after which a chunk is taken back and its videos are pending again.",
    )
    heartbeat_s: int = Field(
        25,
        ge=1,
        validate_default=True,
        json_schema_extra=BOX,
        description="Seconds between heartbeats, give or take a quarter. At most two fifths of VFLEET_LEASE_S, so that "
        "one heartbeat may be lost.",
    )
    drain_grace_s: int = Field(
        120,
        ge=0,
        json_schema_extra=BOX,
        description="Seconds after SIGTERM in which running chunks may finish the present video and commit.",
    )
    max_attempts: int = Field(
        3,
        ge=1,
        json_schema_extra=BOX,
        description="Attempts at a video that may end in a transient error of that video before it fails for good.",
    )

    gateway_tokens: Path | None = Field(
        default=None,
        json_schema_extra=CONTROL,
        description="Token file of the gateway. If it is set, each rented box gets a gateway token of its own, which "
        "ends with the rental.",
    )
    cloudflare_api_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("CLOUDFLARE_API_TOKEN", "VFLEET_CLOUDFLARE_API_TOKEN"),
        json_schema_extra=CONTROL,
        description="The R2 API token to which R2_ACCESS_KEY_ID belongs. If it is set, the control machine issues each "
        "box temporary store credentials. Never give it to a box.",
    )
    cloudflare_account_id: str = Field(
        "",
        validation_alias=AliasChoices("CLOUDFLARE_ACCOUNT_ID", "VFLEET_CLOUDFLARE_ACCOUNT_ID"),
        json_schema_extra=CONTROL,
        description="Account that owns the buckets: the first label of R2_ENDPOINT_URL.",
    )
    cloudflare_url: str = Field(
        "https://api.cloudflare.com", json_schema_extra=CONTROL, description="Address of Cloudflare's API."
    )
    vast_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("VAST_API_KEY", "VFLEET_VAST_API_KEY"),
        json_schema_extra=CONTROL,
        description="API key of the Vast.ai account that rents boxes. Never give it to a box.",
    )
    vast_url: str = Field(
        "https://console.vast.ai",
        validation_alias=AliasChoices("VAST_URL", "VFLEET_VAST_URL"),
        json_schema_extra=CONTROL,
        description="Address of the Vast.ai API.",
    )

    @field_validator("languages", mode="before")
    @classmethod
    def _split_languages(cls, value: object) -> object:
        return [code.strip() for code in value.split(",") if code.strip()] if isinstance(value, str) else value

    @field_validator("heartbeat_s")
    @classmethod
    def _check_heartbeat(cls, heartbeat_s: int, others: ValidationInfo) -> int:
        lease_s = others.data.get("lease_s")  # missing if the value of lease_s is invalid
        if lease_s is not None and lease_s < MIN_LEASE_HEARTBEATS * heartbeat_s:
            raise ValueError(
                f"must be at most {int(lease_s / MIN_LEASE_HEARTBEATS)} with a lease_s of {lease_s}, so that a chunk "
                "survives one lost heartbeat"
            )
        return heartbeat_s

    @field_validator("source_key")
    @classmethod
    def _check_source_key(cls, template: str) -> str:
        if template.replace("{video_id}", "").count("{") or "{video_id}" not in template:
            raise ValueError("must contain {video_id} and no other placeholder")
        return template

    @classmethod
    def variables(cls, name: str) -> list[str]:
        """Return the names of the environment variables of a setting, the documented name first.

        Args:
            name: the name of a field of this class.
        """
        alias = cls.model_fields[name].validation_alias
        return (
            [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [f"VFLEET_{name.upper()}"]
        )


def load_settings() -> Settings:
    """Read the settings from the present environment variables.

    Raises:
        BadInput: a variable has an invalid value. The message contains the variable and the value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"setting {where} is {first['input']!r}: {first['msg'].lower()}") from None
