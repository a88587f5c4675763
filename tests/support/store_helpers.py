"""Stores for tests, opened as the settings describe them."""

from obstore.store import ObjectStore

from validation.settings import Settings
from validation.storage.store import delete_object, get_bytes, open_store, put_if_absent

ACCESS_KEY, SECRET_KEY, TOKEN = "AKIAneverprinted", "secretneverprinted", "tokenneverprinted"

NOWHERE = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


def s3_settings(endpoint: str) -> Settings:
    return Settings(
        s3_endpoint_url=endpoint, s3_access_key_id=ACCESS_KEY, s3_secret_access_key=SECRET_KEY, s3_session_token=TOKEN
    )


def open_s3(endpoint: str, bucket: str = "bucket") -> ObjectStore:
    return open_store(f"s3://{bucket}", s3_settings(endpoint))


def damage_object(store: ObjectStore, key: str) -> None:
    """Replace an object by an object of the same length with one other byte near its end."""
    payload = get_bytes(store, key)
    delete_object(store, key)
    put_if_absent(store, key, payload[:-9] + b"U" + payload[-8:])
