"""Whether the Prefect server answers, lets this worker in, and has the pool that it is to serve."""

import asyncio

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from validation.doctor.prefect_server import PrefectRefused, hide_password
from validation.domain import Seconds
from validation.errors import BadInput, Unreachable

ANSWER_WITHIN_S: Seconds = 20.0
"""Prefect's client repeats a request that times out for more than a minute; a start that fails should say so sooner."""


async def require_work_pool(name: str, worker_type: str) -> None:
    """Ask the Prefect server for a work pool, as the worker will. One that does not exist yet is no fault.

    Raises:
        BadInput: there is no PREFECT_API_URL, the server refuses us, or the pool is for workers of another type.
        Unreachable: nothing answers.
    """
    if not (url := PREFECT_API_URL.value()):
        raise BadInput("PREFECT_API_URL is not set: give the address of the Prefect server, as http://host:4200/api")
    address = hide_password(url)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S), get_client() as client:
            pool = await client.read_work_pool(name)
    except ObjectNotFound:
        return
    except httpx.HTTPStatusError as error:
        raise _explain_status(address, error.response.status_code) from error
    except (httpx.HTTPError, TimeoutError) as error:
        check, reason = (
            "check PREFECT_API_URL and that the server is up",
            str(error) or f"no answer in {ANSWER_WITHIN_S:.0f} s",
        )
        raise Unreachable("the Prefect server", address, check, reason) from error
    if pool.type != worker_type:
        raise BadInput(
            f"work pool {name} is for workers of the type {pool.type}, not {worker_type}: choose another --pool"
        )


def _explain_status(address: str, status: int) -> BadInput | Unreachable:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Unreachable("the Prefect server", address, "look at its log", f"it answers with status {status}")
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return PrefectRefused(address, status)
    return BadInput(f"the Prefect server at {address} answers with status {status}: check PREFECT_API_URL")
