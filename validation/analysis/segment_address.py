"""The address at which `vfleet explore` shows a segment. The report links to it."""

from urllib.parse import parse_qs, urlencode

EXPLORE_PORT = 8653
"""Port of `vfleet explore`, unless another program uses it or `--port` names another."""
_PARAMETER = "segment"


def segment_address(video_id: str, segment_index: int) -> str:
    """Return the URL of a segment on the page of `vfleet explore` on this machine, at ``EXPLORE_PORT``."""
    return f"http://127.0.0.1:{EXPLORE_PORT}/?" + urlencode({_PARAMETER: f"{video_id}/{segment_index}"})


def read_segment(query: str) -> str | None:
    """Return the segment in the query of a URL, as ``VIDEO/INDEX``; None if the query names no segment."""
    return next(iter(parse_qs(query.removeprefix("?")).get(_PARAMETER, [])), None)
