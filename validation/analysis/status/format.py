"""Write the fleet's status as text: sentences, cells of tables, and the Markdown page with its charts."""

from collections.abc import Iterator

from validation.analysis.charts.numbers import (
    UNKNOWN,
    format_between,
    format_count,
    format_duration,
    format_hours,
    format_rate,
    format_share,
    format_things,
    format_usd,
)
from validation.analysis.charts.svg import data_uri
from validation.analysis.status.fleet_status import FleetStatus, Row
from validation.analysis.status.plots import draw_plots
from validation.escape import for_markdown, plain_text

BAR_CHARACTERS = 20


def headline(status: FleetStatus) -> str:
    """Write a sentence with the share of finished videos, and the time left or why it is unknown."""
    if not status.videos:
        return "The queue is empty: no transcribed video is known."
    done = f"{format_share(status.done_share)} of {format_count(status.videos)} videos done"
    if not status.workers:
        return f"{done}. No worker has ever registered."
    if not status.eta["videos_left"]:
        return f"{done}: nothing is left to validate."
    if not status.fleet["workers_online"]:
        return f"{done}. No worker is online, so no end is in sight."
    if status.seconds_left is None:
        return f"{done}; nothing was committed in the last hour, so the time left is unknown."
    return f"{done}, empty in {format_duration(status.seconds_left)}."


def facts(status: FleetStatus) -> Iterator[tuple[str, str]]:
    """Yield pairs of a name and a text, for example ``videos`` and their counts. Unknown facts are left out."""
    fleet, eta = status.fleet, status.eta
    yield "videos", describe_videos(fleet)
    yield "workers", describe_workers(fleet)
    for order in status.orders:
        yield f"fleet {order['fleet']}", describe_order(order)
    if quarantined := sum(bool(row["quarantine_reason"]) for row in status.workers):
        yield (
            "quarantined",
            f"{format_count(quarantined)}: `vfleet canaries list` gives the reasons, and the results to take back",
        )
    if fleet["workers_online"]:
        yield "rate", describe_rate(eta)
    if eta["videos_left"] and status.seconds_left is not None:
        interval = format_between(eta["seconds_left_min"], eta["seconds_left_max"], format_duration)
        suffix = f" (90 %: {interval})" if interval != UNKNOWN else ""
        yield "empty in", format_duration(status.seconds_left) + suffix
    yield "segments", describe_segments(fleet)
    yield "chunks", describe_chunks(fleet)
    if status.cost["spent_usd"] is not None:
        yield "cost", describe_cost(status)


def describe_videos(fleet: Row) -> str:
    """Write the number of videos in each state."""
    return (
        f"{format_count(fleet['validated'])} validated, {format_count(fleet['failed'])} failed, "
        f"{format_count(fleet['validating'])} in work, {format_count(fleet['pending'])} waiting"
    )


def describe_rate(eta: Row) -> str:
    """Write the rates of videos and of segments. Both are means over the last hour, as for the time left."""
    return (
        f"{format_rate(eta['videos_per_s'])} videos/s, {format_rate(eta['segments_per_s'])} segments/s in the last hour"
    )


def describe_order(order: Row) -> str:
    """Write how many of the ordered boxes are requested, renting, working or draining.

    If boxes are missing, add the report of the last tick.
    """
    counted = f"{order['boxes']} of {format_things(order['machines'], 'ordered box', 'ordered boxes')}"
    if order["boxes"] >= order["machines"]:
        return counted
    said = plain_text("; ".join(order["last_tick"]), max_chars=300) if order["last_tick_at"] else "no tick has run yet"
    return f"{counted}: {said}" if said else counted


def describe_workers(fleet: Row) -> str:
    """Write the number of workers per liveness. States without a worker are left out."""
    states = ("online", "late", "stale", "offline")
    counted = [f"{fleet[f'workers_{state}']} {state}" for state in states if fleet[f"workers_{state}"]]
    return ", ".join(counted) or "none"


def describe_segments(fleet: Row) -> str:
    """Write the number of segments; if their verdicts were counted, also their hours and the share of each verdict."""
    total = format_count(fleet["segments"] or 0)
    if fleet["accepted"] is None:
        return total
    counted = fleet["accepted"] + fleet["review"] + fleet["rejected"]
    shares = ", ".join(f"{format_share(fleet[name] / counted)} {name}" for name in ("accepted", "review", "rejected"))
    return f"{total} in {format_hours(fleet['audio_s'])}: {shares}"


def describe_chunks(fleet: Row) -> str:
    """Write the number of open chunks, and of the chunks that were ever committed or lost."""
    committed = format_count(fleet["chunks_committed"])
    return f"{fleet['chunks_open']} open, {committed} committed, {fleet['chunks_expired']} lost"


def describe_cost(status: FleetStatus) -> str:
    """Write the dollars spent, the price of all boxes, the price of audio, and the total expected at the end."""
    cost = status.cost
    return (
        f"{format_usd(cost['spent_usd'])} so far, {format_usd(cost['usd_per_hour'])} per hour, "
        f"{format_usd(cost['usd_per_1000_audio_hours'])} per thousand hours of audio, "
        f"{format_usd(status.usd_at_end)} by the end"
    )


def worker_cells(row: Row) -> dict[str, str]:
    """Return the cells of one worker's row in a table, by the name of the column.

    The cell ``last error`` of a quarantined worker has the reason of its quarantine instead.
    """
    cells = {
        "worker": row["worker_id"],
        "state": worker_state(row),
        "silent": format_duration(row["heartbeat_age_s"]),
        "GPU": row["gpu_type"] or UNKNOWN,
        "segments/s": format_rate(row["avg_segs_per_second"]),
        "chunks": format_count(row["open_chunks"]),
        "video": row["current_video_id"] or UNKNOWN,
        "validated": format_count(row["videos_processed"]),
        "failed": format_count(row["videos_failed"]),
        "last error": (row["quarantine_reason"] or row["last_error"] or UNKNOWN).splitlines()[0],
    }
    return {name: plain_text(value, max_chars=200) for name, value in cells.items()}


def worker_state(row: Row) -> str:
    """Return ``quarantined`` or ``draining`` if one applies, else the worker's liveness."""
    if row["quarantine_reason"]:
        return "quarantined"
    return str(row["status"] if row["status"] == "draining" else row["liveness"])


def render_status_page(status: FleetStatus) -> str:
    """Return the status as a Markdown page. The charts are data URIs, so no other file has to be served."""
    return "\n\n".join(_page_parts(status)) + "\n"


def _page_parts(status: FleetStatus) -> Iterator[str]:
    """Yield the parts of the Markdown page, from top to bottom."""
    yield f"# {headline(status)}"
    if not status.videos:
        return
    yield "\n".join(f"- **{name}**: {value}" for name, value in facts(status))
    if status.history:
        yield from (f"![{name}]({data_uri(svg)})" for name, svg in draw_plots(status).items())
    yield "## By language"
    header = ["| language | | done | videos | validated | failed | waiting |", "|:--|:--|--:|--:|--:|--:|--:|"]
    yield "\n".join([*header, *map(_language_line, status.languages)])


def _language_line(row: Row) -> str:
    share = float(row["done_share"])
    counts = (row["videos"], row["validated"], row["failed"], row["pending"] + row["validating"])
    cells = " | ".join(map(format_count, counts))
    return f"| {for_markdown(row['language'])} | `{draw_bar(share)}` | {format_share(share)} | {cells} |"


def describe_language(row: Row) -> str:
    """Write a sentence on the progress of a language, for its progress bar."""
    return (
        f"{for_markdown(row['language'])}: {format_count(row['validated'])} validated and "
        f"{format_count(row['failed'])} failed of {format_count(row['videos'])} videos"
    )


def describe_silence(status: FleetStatus) -> str:
    """Write how many workers are late or stale, and which one for how long at most, for the table of workers."""
    silent = [row for row in status.workers if row["liveness"] in {"late", "stale"}]
    if not silent:
        return f"{format_things(len(status.workers), 'worker', 'workers')}, none silent."
    longest = max(silent, key=lambda row: row["heartbeat_age_s"])
    since = f"{for_markdown(longest['worker_id'])} for {format_duration(longest['heartbeat_age_s'])}"
    return f"{len(silent)} of {format_things(len(status.workers), 'worker', 'workers')} silent, {since}."


def draw_bar(share: float) -> str:
    """Draw a bar of text characters. The bar is full only if the share is 1."""
    filled = min(int(share * BAR_CHARACTERS), BAR_CHARACTERS)
    return "█" * filled + "░" * (BAR_CHARACTERS - filled)
