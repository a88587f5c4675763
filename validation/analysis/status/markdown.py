"""Where the fleet stands, as Markdown with its plots inside."""

from collections.abc import Iterator

from validation.analysis.charts.numbers import format_count, format_duration, format_share
from validation.analysis.charts.svg import data_uri
from validation.analysis.status.fleet_status import FleetStatus, Row
from validation.analysis.status.format import facts, headline
from validation.analysis.status.plots import draw_plots

BAR = 20
"""Characters of a bar."""


def write_page(standing: FleetStatus) -> str:
    """Write the page. Its pictures are in it, as data URIs, so nothing has to be served beside it."""
    return "\n\n".join(_parts(standing)) + "\n"


def _parts(standing: FleetStatus) -> Iterator[str]:
    yield f"# {headline(standing)}"
    if not standing.videos:
        return
    yield "\n".join(["| | |", "|:--|:--|", *(f"| **{name}** | {value} |" for name, value in facts(standing))])
    if standing.history:
        yield from (f"![{name}]({data_uri(svg)})" for name, svg in draw_plots(standing).items())
    yield "## By language"
    header = ["| language | | done | videos | validated | failed | waiting |", "|:--|:--|--:|--:|--:|--:|--:|"]
    yield "\n".join([*header, *map(_language_line, standing.languages)])


def _language_line(row: Row) -> str:
    share = float(row["done_share"])
    counts = (row["videos"], row["validated"], row["failed"], row["pending"] + row["validating"])
    cells = " | ".join(map(format_count, counts))
    return f"| {_escape(row['language'])} | `{draw_bar(share)}` | {format_share(share)} | {cells} |"


def describe_language(row: Row) -> str:
    """One sentence on a language, for its progress bar."""
    return (
        f"{row['language']}: {format_count(row['validated'])} validated and {format_count(row['failed'])} failed "
        f"of {format_count(row['videos'])} videos"
    )


def describe_silence(standing: FleetStatus) -> str:
    """Who is silent, for the table of workers."""
    silent = [row for row in standing.workers if row["liveness"] in {"late", "stale"}]
    if not silent:
        return f"{len(standing.workers)} workers, none silent."
    longest = max(silent, key=lambda row: row["heartbeat_age_s"])
    since = f"{longest['worker_id']} for {format_duration(longest['heartbeat_age_s'])}"
    return f"{len(silent)} of {len(standing.workers)} workers silent, {since}."


def draw_bar(share: float) -> str:
    """A bar of text: full only when all is done."""
    filled = min(int(share * BAR), BAR)
    return "█" * filled + "░" * (BAR - filled)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
