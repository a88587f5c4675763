"""Render `docs/configuration.md` from the settings. `make docs-config` writes the page; a test compares the page."""

import sys
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from validation.settings import Settings

OTHER_VARIABLES = {
    "VFLEET_BOX_LIFETIME_S": ("604800", "Seconds after which a rented box destroys itself.", "box"),
    "VFLEET_BOX_IDLE_S": ("1800", "Seconds without a flow run after which a rented box destroys itself.", "box"),
    "VFLEET_HOME": (
        "/app",
        "Folder of the project on the workers, for `make bootstrap`.",
        "control machine",
    ),
    "VFLEET_OUTCOME_FILE": ("set by the worker", "File in which a flow process leaves its outcome.", "box"),
    "VFLEET_INFERENCE_SOCKET": ("set by the worker", "Socket of the inference server, for flow processes.", "box"),
    "VFLEET_DRAIN_FILE": ("set by the worker", "File that tells flow processes to drain.", "box"),
    "VFLEET_IMAGE": ("set by `vfleet bootstrap`", "Image that `--image` builds, without its tag.", "control machine"),
    "VFLEET_IMAGE_TAG": ("set by `vfleet bootstrap`", "Tag of that image.", "control machine"),
}
"""Environment variables that ``Settings`` does not read. Values: default, meaning, machine that uses the variable."""

_INTRODUCTION = """# Configuration

Generated from `validation/settings.py` by `make docs-config`; do not edit it.

Every setting is an environment variable. The first name of a row is the documented one, the others are accepted too.
A variable `BOX_X` of the control machine is variable `X` of every box that it rents, for the variables that a box may
know ([deploy.md](deploy.md), section 7). `vfleet doctor` names variables that begin with `VFLEET_` and that nothing
reads.

| variable | type | default | meaning | used on |
|---|---|---|---|---|
"""


def render_page() -> str:
    """Return the page as Markdown: one table row per setting, then one row per entry of ``OTHER_VARIABLES``."""
    rows = [_render_field(name, field) for name, field in Settings.model_fields.items()]
    rows += [
        f"| `{name}` | text | {default} | {meaning} | {used_on} |"
        for name, (default, meaning, used_on) in OTHER_VARIABLES.items()
    ]
    return _INTRODUCTION + "\n".join(rows) + "\n"


def names_of_settings() -> set[str]:
    """Return the names of all environment variables that ``Settings`` reads, aliases included."""
    return {variable for name in Settings.model_fields for variable in Settings.variables(name)}


def known_variables() -> set[str]:
    """Return the names of all environment variables of this project that begin with ``VFLEET_``."""
    return {name for name in names_of_settings() if name.startswith("VFLEET_")} | OTHER_VARIABLES.keys()


def _render_field(name: str, field: FieldInfo) -> str:
    """Return the table row of a setting: variables, type, default, meaning, machine."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    variables = ", ".join(f"`{variable}`" for variable in Settings.variables(name))
    default = extra.get("default_text") or _render_default(field.default)
    row = (variables, _render_type(field), default, field.description, extra["used_on"])
    return "| " + " | ".join(str(cell).replace("<", "&lt;").replace("|", "\\|") for cell in row) + " |"


def _render_type(field: FieldInfo) -> str:
    """Return the type of a setting in words, such as ``integer, 1 to 1000``."""
    schema: dict[str, Any] = Settings.model_json_schema(by_alias=False)["properties"]
    described = next(each for each in schema.values() if each.get("description") == field.description)
    options = described.get("anyOf", [described])
    kinds = [_render_kind(option) for option in options if option.get("type") != "null"]
    return " or ".join(kinds)


def _render_kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema:
        case {"format": "password"}:
            return "secret"
        case {"format": "path"}:
            return "path"
        case {"type": "array"}:
            return "list"
        case {"type": "integer"}:
            low, high = schema.get("minimum"), schema.get("maximum")
            return f"integer, {low} to {high}" if high is not None else f"integer, at least {low}"
        case _:
            return "text"


def _render_default(value: object) -> str:
    if isinstance(value, SecretStr) or value is None or value in {PydanticUndefined, ""}:
        return "none"
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(render_page())
