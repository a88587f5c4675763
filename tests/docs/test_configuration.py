"""docs/configuration.md equals the page that is generated from the settings."""

from tests.support.doc_pages import DOCS
from validation.configuration import OTHER_VARIABLES, known_variables, render_page
from validation.settings import Settings


def test_configuration_page_is_up_to_date():
    """`make docs-config` writes the page."""
    assert (DOCS / "configuration.md").read_text() == render_page()


def test_every_setting_has_a_description_and_says_where_it_is_used():
    """No cell of the page is empty."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.json_schema_extra["used_on"] in {"box", "control machine", "both"}, name


def test_known_variables_hold_those_that_other_programs_read():
    """The doctor reports any other `VFLEET_` variable as misspelt."""
    assert {"VFLEET_SUITE", "VFLEET_CHUNK_VIDEOS", *OTHER_VARIABLES} <= known_variables()
    assert "DATABASE_URL" not in known_variables()
