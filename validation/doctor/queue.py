"""The queue and its ledger: writable, whole, and with labels that the models know."""

from validation.doctor.check import CheckWarning
from validation.doctor.database import read_one
from validation.errors import BadInput
from validation.languages import normalize_language_code
from validation.ledger.migrate import find_invalid_indexes
from validation.ledger.queries import read_view
from validation.ledger.queue_table import require_queue
from validation.services import open_ledger
from validation.settings import Settings

NO_LABEL = "unknown"
"""How `queue_progress` names videos without a label."""
_MAX_LABELS = 5


def check_writable(settings: Settings) -> str:
    """The database accepts changes: it is no replica, and its disk is not full."""
    state = read_one(settings, "writable")
    if state.is_replica:
        raise BadInput("DATABASE_URL leads to a read-only replica: name the primary server")
    if state.is_read_only:
        raise BadInput(
            "the database is read-only, as a hosted one becomes at 95 % of its disk: enlarge the disk, then set "
            "default_transaction_read_only to off"
        )
    return "the database accepts changes"


def check_queue(settings: Settings) -> str:
    """`video_queue` has the columns and types that the ledger needs."""
    exists = require_queue(open_ledger(settings, check_revision=False))
    return "video_queue has every column" if exists else "there is no video_queue yet: `vfleet migrate` makes it"


def check_indexes(settings: Settings) -> str:
    """No index of the ledger was left invalid by a build that was cut off: a claim would read the whole queue."""
    if invalid := find_invalid_indexes(open_ledger(settings, check_revision=False)):
        raise BadInput(f"no query uses the indexes {', '.join(invalid)}: `vfleet migrate` rebuilds them")
    return "all indexes are valid"


def check_labels(settings: Settings) -> str:
    """ISO 639 knows the language labels of the queue. No model is asked about a segment with another label."""
    rows = read_view(open_ledger(settings), "queue_progress")
    unlabelled = sum(row["videos"] for row in rows if row["language"] == NO_LABEL)
    unknown = {
        row["language"]: row["videos"]
        for row in rows
        if row["language"] != NO_LABEL and normalize_language_code(row["language"]) is None
    }
    problems = []
    if unknown:
        named = ", ".join(f"{label!r} ({count:,})" for label, count in list(unknown.items())[:_MAX_LABELS])
        more = f" and {len(unknown) - _MAX_LABELS} more" if len(unknown) > _MAX_LABELS else ""
        problems.append(f"{sum(unknown.values()):,} videos have a label that ISO 639 does not know: {named}{more}")
    if unlabelled:
        problems.append(f"{unlabelled:,} videos have no label")
    if problems:
        raise CheckWarning(f"{'; '.join(problems)}: none of their segments is accepted; correct video_queue.language")
    return f"{len(rows)} labels, all known" if rows else "the queue is empty"
