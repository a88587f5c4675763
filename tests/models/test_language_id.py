"""The labels of LID models."""

import pytest

from validation.errors import BadInput
from validation.models.language_id import refuse_unknown_labels


def test_a_label_that_no_table_knows_is_refused():
    """Such a label would count against every declared language; codes that ISO 639 has withdrawn are known."""
    refuse_unknown_labels("mms", ["hin", "hi: Hindi", "iw: Hebrew", "uzb-script_cyrillic", "ajp"])
    with pytest.raises(BadInput, match=r"mms has labels that are no language codes of ISO 639: xxq, 7: "):
        refuse_unknown_labels("mms", ["hin", "xxq", "7"])
