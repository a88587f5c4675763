"""Where the fleet stands, in a few words each: what the page and the terminal both say."""

from collections.abc import Iterator

from validation.analysis.charts.numbers import (
    UNKNOWN,
    format_between,
    format_count,
    format_duration,
    format_hours,
    format_rate,
    format_share,
    format_usd,
)
from validation.analysis.status.fleet_status import FleetStatus, Row


def headline(standing: FleetStatus) -> str:
    """One sentence: what an operator asks first."""
    if not standing.videos:
        return "The queue is empty: no transcribed video is known."
    done = f"{format_share(standing.done_share)} of {format_count(standing.videos)} videos done"
    if not standing.workers:
        return f"{done}. No worker has ever registered."
    if not standing.eta["videos_left"]:
        return f"{done}: nothing is left to validate."
    if standing.eta["seconds_left"] is None:
        return f"{done}; nothing was committed in the last hour, so nobody knows how long it takes."
    return f"{done}, empty in {format_duration(standing.eta['seconds_left'])}."


def facts(standing: FleetStatus) -> Iterator[tuple[str, str]]:
    """What is known, as names and values; what does not apply is left out."""
    fleet, eta = standing.fleet, standing.eta
    yield "videos", describe_videos(fleet)
    yield "workers", describe_workers(fleet)
    if quarantined := sum(bool(row["quarantine_reason"]) for row in standing.workers):
        yield (
            "quarantined",
            f"{format_count(quarantined)}: `vfleet canaries list` says why, and what of theirs to take back",
        )
    yield "rate", f"{format_rate(eta['videos_per_s'])} videos/s, {format_rate(fleet['segments_per_s'])} segments/s"
    if eta["videos_left"]:
        bounds = format_between(eta["seconds_left_min"], eta["seconds_left_max"], format_duration)
        told = f" (90 %: {bounds})" if bounds != UNKNOWN else ""
        yield "empty in", format_duration(eta["seconds_left"]) + told
    yield "segments", describe_segments(fleet)
    yield "chunks", describe_chunks(fleet)
    if standing.cost["spent_usd"] is not None:
        yield "cost", describe_cost(standing)


def describe_videos(fleet: Row) -> str:
    return (
        f"{format_count(fleet['validated'])} validated, {format_count(fleet['failed'])} failed, "
        f"{format_count(fleet['validating'])} in work, {format_count(fleet['pending'])} waiting"
    )


def describe_workers(fleet: Row) -> str:
    states = ("online", "late", "stale", "offline")
    counted = [f"{fleet[f'workers_{state}']} {state}" for state in states if fleet[f"workers_{state}"]]
    return ", ".join(counted) or "none"


def describe_segments(fleet: Row) -> str:
    total = format_count(fleet["segments"] or 0)
    if fleet["accepted"] is None:
        return total
    counted = fleet["accepted"] + fleet["review"] + fleet["rejected"]
    shares = ", ".join(f"{format_share(fleet[name] / counted)} {name}" for name in ("accepted", "review", "rejected"))
    return f"{total} in {format_hours(fleet['audio_s'])}: {shares}"


def describe_chunks(fleet: Row) -> str:
    committed = format_count(fleet["chunks_committed"])
    return f"{fleet['chunks_open']} open, {committed} committed, {fleet['chunks_expired']} lost"


def describe_cost(standing: FleetStatus) -> str:
    cost = standing.cost
    return (
        f"{format_usd(cost['spent_usd'])} so far, {format_usd(cost['usd_per_hour'])} an hour, "
        f"{format_usd(cost['usd_per_1000_audio_hours'])} a thousand hours of audio, "
        f"{format_usd(standing.usd_at_end)} by the end"
    )


def worker_cells(row: Row) -> dict[str, str]:
    """One worker, as every table of workers shows it."""
    return {
        "worker": row["worker_id"],
        "state": say_state(row),
        "silent": format_duration(row["heartbeat_age_s"]),
        "GPU": row["gpu_type"] or UNKNOWN,
        "segments/s": format_rate(row["avg_segs_per_second"]),
        "chunks": format_count(row["open_chunks"]),
        "video": row["current_video_id"] or UNKNOWN,
        "validated": format_count(row["videos_processed"]),
        "failed": format_count(row["videos_failed"]),
        "last error": (row["quarantine_reason"] or row["last_error"] or UNKNOWN).splitlines()[0],
    }


def say_state(row: Row) -> str:
    """A worker's liveness, unless something matters more."""
    if row["quarantine_reason"]:
        return "quarantined"
    return str(row["status"] if row["status"] == "draining" else row["liveness"])
