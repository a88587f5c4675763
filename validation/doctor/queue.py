"""The queue and its ledger: writable, whole, and with labels that the models know."""

from collections.abc import Iterator, Mapping

from validation.doctor.check import CheckWarning
from validation.doctor.database import read_one
from validation.domain import UNKNOWN_LANGUAGE, UNSUPPORTED_LANGUAGE, Fault, label_fault
from validation.errors import BadInput
from validation.ledger.chunks import count_labels
from validation.ledger.migrate import find_invalid_indexes
from validation.ledger.queue_table import require_queue
from validation.models.label_files import read_known_languages
from validation.services import open_ledger
from validation.settings import Settings

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
    """ISO 639 and the suite's models know the labels of the pending videos.

    No model is asked about a segment with another label.
    """
    counts = count_labels(open_ledger(settings, check_revision=False), settings.worker_id, settings.languages)
    known = read_known_languages(settings.suite, settings.weights)
    missing = sum(count for label, count in counts.items() if not label)
    faults = {label: label_fault(label, known or ()) for label in counts}
    problems = [
        *_name_labels(counts, faults, UNKNOWN_LANGUAGE, "a label that ISO 639 does not know"),
        *_name_labels(counts, faults, UNSUPPORTED_LANGUAGE, f"a label that no model of suite {settings.suite} knows"),
        *([f"{missing:,} videos have no label"] if missing else []),
    ]
    if problems:
        raise CheckWarning(f"{'; '.join(problems)}: none of their segments is accepted; correct video_queue.language")
    if not counts:
        return "no video is pending"
    compared = (
        "all known" if known is not None else "all in ISO 639; boxes compare them with the labels of their models"
    )
    return f"{len(counts)} labels, {compared}"


def _name_labels(
    counts: Mapping[str, int], faults: Mapping[str, Fault | None], fault: Fault, problem: str
) -> Iterator[str]:
    """Return the part of the sentence about the labels with a fault; nothing if there are none."""
    found = {label: counts[label] for label, own in faults.items() if own == fault}
    if found:
        named = ", ".join(f"{label!r} ({count:,})" for label, count in list(found.items())[:_MAX_LABELS])
        more = f" and {len(found) - _MAX_LABELS} more" if len(found) > _MAX_LABELS else ""
        yield f"{sum(found.values()):,} videos have {problem}: {named}{more}"
