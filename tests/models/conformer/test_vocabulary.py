import json

import numpy as np
import pytest

from simulation.tiny_models.conformer import save_vocabulary
from validation.models.conformer.vocabulary import BLANK, VocabularyRefused, read_vocabulary

WIDTH = 5633


@pytest.fixture
def assets(tmp_path):
    save_vocabulary(tmp_path)
    return tmp_path


@pytest.fixture
def edit(assets):
    def change(name, change_in_place):
        path = assets / name
        content = json.loads(path.read_text(encoding="utf-8"))
        change_in_place(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return change


def test_columns_come_from_the_masks(assets, edit):
    """Columns are read from the masks: when the masks of two languages are exchanged, so are their columns."""
    before = read_vocabulary(assets, WIDTH)
    assert len(before.languages) == 22
    assert before.columns.shape == (22, BLANK + 1)
    assert set(before.columns[:, BLANK]) == {WIDTH - 1}
    edit("language_masks.json", lambda masks: masks.update({"hi": masks["or"], "or": masks["hi"]}))
    after = read_vocabulary(assets, WIDTH)
    for language, other in (("hi", "or"), ("or", "hi")):
        now, then = after.columns[after.index_of[language]], before.columns[before.index_of[other]]
        assert np.array_equal(now, then)
        assert after.pieces[language] == before.pieces[language]


def test_tokens_decode_to_text(assets):
    """Pieces are joined, the word mark is a space, and `<unk>` is visible."""
    vocabulary = read_vocabulary(assets, WIDTH)
    pieces = vocabulary.pieces["hi"]
    first, second = pieces.index("▁" + chr(0x915)), pieces.index(chr(0x916))
    assert vocabulary.decode("hi", [first, second, 0, first]) == f"{chr(0x915)}{chr(0x916)}⁇ {chr(0x915)}"


REFUSALS = {
    "a mask too many": (
        "language_masks.json",
        lambda masks: masks.update(en=masks["hi"]),
        "differ in the languages en",
    ),
    "a language missing": ("vocab.json", lambda spelt: spelt.pop("hi"), "differ in the languages hi"),
    "an unknown language": (None, lambda content: content.update(xx=content.pop("hi")), "xx is not a language"),
    "a mask of another head": ("language_masks.json", lambda masks: masks["hi"].append(False), "the head's 5633"),
    "a mask too wide": ("language_masks.json", lambda masks: masks["hi"].__setitem__(0, True), "takes 258 of 5633"),
    "no blank": (
        "language_masks.json",
        lambda masks: masks["hi"].__setitem__(slice(None), [True, *masks["hi"][:-1]]),
        "does not end with the blank",
    ),
    "two with one column": ("language_masks.json", lambda masks: masks.update(hi=masks["or"]), "masks of hi and or"),
    "a piece missing": ("vocab.json", lambda spelt: spelt.update(hi=spelt["hi"][:255]), "hi has 255 entries"),
    "a piece twice": ("vocab.json", lambda spelt: spelt["hi"].__setitem__(7, spelt["hi"][8]), "different pieces"),
    "no unknown": ("vocab.json", lambda spelt: spelt["hi"].__setitem__(0, "x"), "not <unk>"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_vocabulary_that_does_not_fit_is_refused(assets, edit, fault):
    """With a wrong mask every transcript would look wrong without any error."""
    name, change, sentence = REFUSALS[fault]
    for changed in [name] if name else ["vocab.json", "language_masks.json"]:
        edit(changed, change)
    with pytest.raises(VocabularyRefused, match=sentence):
        read_vocabulary(assets, WIDTH)
