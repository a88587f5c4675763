"""The colours of every chart, for light and for dark mode.

Each colour has a contrast to ``paper`` of at least 3 (shapes) or 4.5 (letters), as WCAG 2.2 requires. Accept, review
and reject differ in lightness and in blue, so that readers who do not distinguish red from green can tell them apart.
"""

from collections.abc import Mapping

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

FONT = "Inter, ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def palette_css() -> str:
    """The colours as CSS variables, which follow the reader's preference."""
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
"""The styles of the charts' classes; it needs the variables of ``palette_css``."""


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
