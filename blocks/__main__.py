"""`python -m blocks save | test`: save the settings of the environment as blocks, and test the saved blocks.

`save` writes the block documents `ledger` and `validation-results` from DATABASE_URL, the VFLEET_ and the R2_ variables
of this process, `suite` if VFLEET_SUITE is set, and `vast` if VAST_API_KEY is set. `test` loads each existing block
document and uses it once.
"""

import sys
from collections.abc import Callable, Mapping

from prefect.blocks.core import Block
from prefect_aws import S3Bucket

from blocks.bucket import RESULTS, apply_bucket_block, build_bucket
from blocks.types import (
    DATABASE_BLOCK,
    SUITE_BLOCK,
    VAST_BLOCK,
    ModelSuite,
    ValidationDatabase,
    VastCredentials,
    find_block,
)
from validation.errors import FleetError
from validation.exit_codes import ExitCode, exit_code_of
from validation.settings import load_settings
from validation.storage.errors import describe_store_address
from validation.storage.store import check_store, open_store


def save_blocks() -> int:
    """Save the block documents and overwrite existing ones. Returns OK; saves no document if a setting is invalid."""
    settings = load_settings()
    documents: dict[str, Block] = {
        DATABASE_BLOCK: ValidationDatabase.from_settings(settings),
        RESULTS: build_bucket(settings),
    }
    if "suite" in settings.model_fields_set:  # the default suite is for tests: a fleet must choose its suite
        documents[SUITE_BLOCK] = ModelSuite.from_settings(settings)
    if settings.vast_api_key.get_secret_value():
        documents[VAST_BLOCK] = VastCredentials.from_settings(settings)
    for name, document in documents.items():
        document.save(name, overwrite=True)
        sys.stdout.write(f"{name} saved as {document.get_block_type_slug()}\n")
    return ExitCode.OK


def test_blocks() -> int:
    """Use every block document once, and print one line per document. Returns FAILED if a document does not work."""
    code = ExitCode.OK
    for name, test in TESTS.items():
        try:
            result = test()
        except FleetError as error:
            code, result = ExitCode.FAILED, str(error)
        sys.stdout.write(f"{name}: {result}\n")
    return code


def test_database() -> str:
    """Run the checks of the block ``ledger``. Returns their findings, or the sentence that there is no such block."""
    block = find_block(ValidationDatabase, DATABASE_BLOCK)
    return "; ".join(block.test_connection()) if block else "none: the environment's DATABASE_URL is used"


def test_suite() -> str:
    """Check the block ``suite``. Returns the settings of new boxes, or the sentence that there is no such block."""
    block = find_block(ModelSuite, SUITE_BLOCK)
    return "; ".join(block.test_connection()) if block else "none: boxes get the BOX_ variables of the environment"


def test_results() -> str:
    """Send a request to the results bucket of the block. Returns its address, or that there is no such block."""
    block = find_block(S3Bucket, RESULTS)
    if block is None:
        return "none: the environment's VFLEET_RESULTS_URL and R2_ variables are used"
    settings = apply_bucket_block(block, load_settings())
    store = open_store(settings.results_url, settings)
    check_store(store)
    return f"{describe_store_address(store)} answers"


def test_vast() -> str:
    """Check the account of the block ``vast``. Returns its credit, or the sentence that there is no such block."""
    block = find_block(VastCredentials, VAST_BLOCK)
    return "; ".join(block.test_connection()) if block else "none: the environment's VAST_API_KEY is used"


# Name of a block document -> function that uses it once and returns one line for the operator.
TESTS: Mapping[str, Callable[[], str]] = {
    DATABASE_BLOCK: test_database,
    SUITE_BLOCK: test_suite,
    RESULTS: test_results,
    VAST_BLOCK: test_vast,
}

if __name__ == "__main__":
    commands = {"save": save_blocks, "test": test_blocks}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:  # noqa: PLR2004 - the program and its one argument
        sys.exit(__doc__)
    try:
        sys.exit(commands[sys.argv[1]]())
    except FleetError as error:
        sys.stderr.write(f"blocks: {error}\n")
        sys.exit(exit_code_of(error))
