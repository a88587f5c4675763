"""Where the fleet stands, in a few words each: what the page and the terminal both say."""

from collections.abc import Iterator

from validation.analysis.charts.numbers import (
    UNKNOWN,
    say_between,
    say_count,
    say_duration,
    say_hours,
    say_rate,
    say_share,
    say_usd,
)
from validation.analysis.status.fleet_status import Row, Standing


def headline(standing: Standing) -> str:
    """One sentence: what an operator asks first."""
    if not standing.videos:
        return "The queue is empty: no transcribed video is known."
    done = f"{say_share(standing.done_share)} of {say_count(standing.videos)} videos done"
    if not standing.workers:
        return f"{done}. No worker has ever registered."
    if not standing.eta["videos_left"]:
        return f"{done}: nothing is left to validate."
    if standing.eta["seconds_left"] is None:
        return f"{done}; nothing was committed in the last hour, so nobody knows how long it takes."
    return f"{done}, empty in {say_duration(standing.eta['seconds_left'])}."


def facts(standing: Standing) -> Iterator[tuple[str, str]]:
    """What is known, as names and values; what does not apply is left out."""
    fleet, eta = standing.fleet, standing.eta
    yield "videos", describe_videos(fleet)
    yield "workers", describe_workers(fleet)
    if distrusted := sum(bool(row["distrust"]) for row in standing.workers):
        yield "distrusted", f"{say_count(distrusted)}: `vfleet canaries list` says why, and what of theirs to take back"
    yield "rate", f"{say_rate(eta['videos_per_s'])} videos/s, {say_rate(fleet['segments_per_s'])} segments/s"
    if eta["videos_left"]:
        bounds = say_between(eta["seconds_left_least"], eta["seconds_left_most"], say_duration)
        told = f" (90 %: {bounds})" if bounds != UNKNOWN else ""
        yield "empty in", say_duration(eta["seconds_left"]) + told
    yield "segments", describe_segments(fleet)
    yield "chunks", describe_chunks(fleet)
    if standing.cost["spent_usd"] is not None:
        yield "cost", describe_cost(standing)


def describe_videos(fleet: Row) -> str:
    return (
        f"{say_count(fleet['validated'])} validated, {say_count(fleet['failed'])} failed, "
        f"{say_count(fleet['validating'])} in work, {say_count(fleet['pending'])} waiting"
    )


def describe_workers(fleet: Row) -> str:
    states = ("online", "late", "stale", "offline")
    counted = [f"{fleet[f'workers_{state}']} {state}" for state in states if fleet[f"workers_{state}"]]
    return ", ".join(counted) or "none"


def describe_segments(fleet: Row) -> str:
    total = say_count(fleet["segments"] or 0)
    if fleet["accepted"] is None:
        return total
    counted = fleet["accepted"] + fleet["review"] + fleet["rejected"]
    shares = ", ".join(f"{say_share(fleet[name] / counted)} {name}" for name in ("accepted", "review", "rejected"))
    return f"{total} in {say_hours(fleet['audio_s'])}: {shares}"


def describe_chunks(fleet: Row) -> str:
    return (
        f"{fleet['chunks_open']} open, {say_count(fleet['chunks_committed'])} committed, {fleet['chunks_expired']} lost"
    )


def describe_cost(standing: Standing) -> str:
    cost = standing.cost
    return (
        f"{say_usd(cost['spent_usd'])} so far, {say_usd(cost['usd_per_hour'])} an hour, "
        f"{say_usd(cost['usd_per_1000_audio_hours'])} a thousand hours of audio, "
        f"{say_usd(standing.usd_at_end)} by the end"
    )


def worker_cells(row: Row) -> dict[str, str]:
    """One worker, as every table of workers shows it."""
    return {
        "worker": row["worker_id"],
        "state": say_state(row),
        "silent": say_duration(row["silent_s"]),
        "GPU": row["gpu_type"] or UNKNOWN,
        "segments/s": say_rate(row["avg_segs_per_second"]),
        "chunks": say_count(row["open_chunks"]),
        "video": row["current_video_id"] or UNKNOWN,
        "validated": say_count(row["videos_processed"]),
        "failed": say_count(row["videos_failed"]),
        "last error": (row["distrust"] or row["last_error"] or UNKNOWN).splitlines()[0],
    }


def say_state(row: Row) -> str:
    """A worker's liveness, unless something matters more."""
    if row["distrust"]:
        return "distrusted"
    return str(row["status"] if row["status"] == "draining" else row["liveness"])
