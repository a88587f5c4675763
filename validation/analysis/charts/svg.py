"""Write SVG elements, and the frames around a chart."""

from base64 import b64encode
from collections.abc import Sequence

from validation.analysis.charts.style import SHAPES_CSS, palette_css
from validation.escape import for_html

Point = tuple[float, float]


def tag(name: str, *children: str, **attributes: object) -> str:
    """Write an element. ``class_`` becomes ``class``, other underscores become hyphens; children are already markup."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{for_html(_write(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def label(text: str, x: float, y: float, **attributes: object) -> str:
    return tag("text", for_html(text), x=x, y=y, **attributes)


def path(points: Sequence[Point], **attributes: object) -> str:
    """A straight line from point to point."""
    return tag("path", d="M" + "L".join(f"{_write(x)} {_write(y)}" for x, y in points), **attributes)


def embedded(width: float, height: float, *children: str, title: str) -> str:
    """Frame a chart for a page that has the styles; screen readers read the ``title``."""
    return tag(
        "svg", tag("title", for_html(title)), *children, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_write(width)} {_write(height)}", role="img",
    )  # fmt: skip


def standalone(width: float, height: float, *children: str, title: str) -> str:
    """Frame a chart with a background and styles of its own, for pages in light or dark mode."""
    paper = tag("rect", class_="paper", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=10)
    style = f"<style>{palette_css()}{SHAPES_CSS}</style>"
    framed = embedded(width, height, style, paper, *children, title=title)
    return framed.replace("<svg ", f'<svg width="{_write(width)}" height="{_write(height)}" ', 1)


def data_uri(svg: str) -> str:
    """The chart as a data URI."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _write(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
