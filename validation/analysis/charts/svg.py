"""Functions that write SVG elements, and the colours and style sheet of all charts."""

from base64 import b64encode
from collections.abc import Mapping, Sequence

from validation.escape import for_html

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "raised": "#f6f7f9",
    "ink": "#1b2330",
    "muted": "#5a6575",
    "grid": "#e3e7ed",
    "accept": "#0b7a63",
    "review": "#b07400",
    "reject": "#c03a2b",
    "blue": "#2c62c9",
}
"""The colours of light mode, by name."""
DARK: Mapping[str, str] = {
    "paper": "#171b22",
    "raised": "#1f252e",
    "ink": "#e8ecf2",
    "muted": "#9aa6b6",
    "grid": "#303845",
    "accept": "#3fc3a2",
    "review": "#e3ae4a",
    "reject": "#f0796a",
    "blue": "#7aa7f5",
}
"""The colours of dark mode, by the names of ``LIGHT``."""

FONT = "Inter, ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def palette_css() -> str:
    """Return a style sheet with the colours as CSS variables, for light and for dark mode."""
    return f":root{{{_variables(LIGHT)}}}@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"


SHAPES_CSS = (
    f"svg text{{font-family:{FONT};font-size:12px;fill:var(--muted)}}"
    "svg .title{font-size:14px;font-weight:600;fill:var(--ink)}"
    "svg .paper{fill:var(--paper);stroke:var(--grid)}"
    "svg .grid{stroke:var(--grid);stroke-width:1}"
    "svg .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    "svg .forecast{fill:none;stroke-width:1.5;stroke-dasharray:4 4}"
    "svg .band{opacity:.18;stroke:none}"
    "svg .mark{stroke-width:1.5;stroke-dasharray:3 3}"
) + "".join(
    f"svg .stroke-{name}{{stroke:var(--{name})}}svg .fill-{name}{{fill:var(--{name})}}"
    for name in ("accept", "review", "reject", "blue", "muted")
)
"""The style sheet of the charts. It uses the colour variables of ``palette_css``."""


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


Point = tuple[float, float]


def tag(name: str, *children: str, **attributes: object) -> str:
    """Write an SVG element. ``class_`` becomes ``class``, and other underscores become hyphens.

    ``children`` are markup and are not escaped. An attribute with the value None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{for_html(_format_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def label(text: str, x: float, y: float, **attributes: object) -> str:
    """Write a text element whose baseline is at ``y``. The text is escaped."""
    return tag("text", for_html(text), x=x, y=y, **attributes)


def path(points: Sequence[Point], **attributes: object) -> str:
    """Write a path of straight lines through the points."""
    return tag("path", d="M" + "L".join(f"{_format_value(x)} {_format_value(y)}" for x, y in points), **attributes)


def embedded(width: float, height: float, *children: str, title: str) -> str:
    """Return a chart as an SVG element for a page that includes ``SHAPES_CSS``. Screen readers read the ``title``."""
    return tag(
        "svg", tag("title", for_html(title)), *children, xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_format_value(width)} {_format_value(height)}", role="img",
    )  # fmt: skip


def standalone(width: float, height: float, *children: str, title: str) -> str:
    """Return a chart as an SVG file with its own background and style sheet, for light and for dark mode."""
    paper = tag("rect", class_="paper", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=10)
    style = f"<style>{palette_css()}{SHAPES_CSS}</style>"
    framed = embedded(width, height, style, paper, *children, title=title)
    return framed.replace("<svg ", f'<svg width="{_format_value(width)}" height="{_format_value(height)}" ', 1)


def data_uri(svg: str) -> str:
    """Encode an SVG chart as a data URI."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def _format_value(value: object) -> str:
    """Return the value of an attribute; a float has at most one decimal."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
