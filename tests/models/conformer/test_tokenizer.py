"""The vocabulary is refused unless it fits its graph, and transcripts become the tokens that SentencePiece gives."""

import io
import json
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.tiny_models.conformer import LETTERS, make_pieces, save_vocabulary
from validation.models.conformer.tokenizer import BLANK, SubwordTokenizer, VocabularyRefused, read_vocabulary
from validation.models.ctc import WILDCARD
from validation.scoring.text import normalise_text

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


PIECES = make_pieces(LETTERS["hi"])
SPELLER = SubwordTokenizer(PIECES)
KA, KHA, GA = "कखग"


def read(tokens, pieces=PIECES):
    return "".join("*" if token == WILDCARD else pieces[token] for token in tokens).replace("▁", " ").strip()


@pytest.fixture(scope="module")
def trained():
    """A byte-pair vocabulary as NeMo's, trained by SentencePiece."""
    import sentencepiece

    rng = random.Random(4)
    syllables = [c + v for c in "कखगचजटडतदनपबमयरलवसह" for v in ("", "ा", "ि", "ी", "ु", "े", "ो")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(300)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(rng.choices(words, k=9)) for _ in range(400)]),
        model_writer=model,
        vocab_size=256,
        model_type="bpe",
        character_coverage=1.0,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), words


def test_tokens_equal_those_of_sentencepiece(trained):
    """From the list of pieces alone every text gets the tokens of SentencePiece's own model file."""
    processor, words = trained
    pieces = [processor.id_to_piece(token) for token in range(processor.get_piece_size())]
    speller = SubwordTokenizer(pieces)
    assert speller.is_byte_pair
    rng = random.Random(5)
    texts = [" ".join(rng.choices(words, k=7)) for _ in range(50)]
    texts += ["".join(rng.choices("कखगाििीीुे", k=12)) for _ in range(50)]
    for text in texts:
        assert list(speller.tokenize(text).tokens) == processor.encode(text)


@settings(deadline=None)
@given(st.text(alphabet="".join(piece for piece in PIECES if len(piece) == 1 and piece != "▁") + "  ", max_size=40))
def test_tokens_decode_to_the_text(text):
    """Tokens of a text within the alphabet decode to the text."""
    spelt = SPELLER.tokenize(text)
    assert read(spelt.tokens) == " ".join(unicodedata.normalize("NFC", text).split())
    assert spelt.covered == (1.0 if text.split() else None)
    assert spelt.known_tokens == len(spelt.tokens) == len(spelt.words)


def test_a_vocabulary_without_merge_order_uses_the_fewest_pieces():
    """A vocabulary that is not byte-pair is recognised, and its longest pieces are used."""
    pieces = ["<unk>", f"▁{KA}{KHA}{GA}", "▁", KA, KHA, GA, KHA + GA + KA]
    speller = SubwordTokenizer(pieces)
    assert not speller.is_byte_pair
    assert read(speller.tokenize(KA + KHA + GA + KHA + GA + KA).tokens, pieces) == KA + KHA + GA + KHA + GA + KA
    assert len(speller.tokenize(KA + KHA + GA + KHA + GA + KA).tokens) == 2


@pytest.mark.parametrize(
    ("text", "spelling", "covered"),
    [
        (f"{KA}{KHA}। {GA}, {KA}!", f"{KA}{KHA} {GA} {KA}", 1.0),  # a danda is not spoken
        (f"{KA} COVID {KHA}", f"{KA}* {KHA}", 2 / 7),
        (f"{KA} COVID test {KHA}", f"{KA}* {KHA}", 2 / 11),
        (f"{KA}19", f"{KA}*", 1 / 3),
        (f"{KA}\u200d{KHA}", f"{KA}{KHA}", 1.0),  # a joiner that the vocabulary lacks
        ("only Latin", "*", 0.0),
        ("। — …", "", None),
        ("", "", None),
    ],
)
def test_unknown_characters_become_wildcards(text, spelling, covered):
    """Letters and digits without a piece become one wildcard per stretch; punctuation becomes nothing."""
    spelt = SPELLER.tokenize(text)
    assert read(spelt.tokens) == spelling
    assert spelt.covered == (None if covered is None else pytest.approx(covered))


def test_tokens_carry_the_ordinal_of_their_word():
    """A word's tokens carry its ordinal; wildcards belong to no word."""
    spelt = SPELLER.tokenize(f"{KA}{KHA}{GA} xyz {GA}{KA}")
    own = dict.fromkeys(spelt.words)
    assert list(own) == [0, -1, 2]
    assert [token == WILDCARD for token in spelt.tokens] == [word == -1 for word in spelt.words]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_can_be_tokenized(text):
    """No text raises, wildcards never follow each other, and coverage is within [0, 1]."""
    spelt = SPELLER.tokenize(text)
    assert all(not left == right == WILDCARD for left, right in zip(spelt.tokens, spelt.tokens[1:], strict=False))
    assert spelt.covered is None or 0 <= spelt.covered <= 1
    assert (spelt.covered is not None) == bool(spelt.tokens)
    if not normalise_text(text):
        assert spelt.covered is None


@pytest.mark.parametrize("splitter", ["_merge", "_fewest_pieces"])
def test_a_word_that_does_not_decode_back_becomes_a_wildcard(splitter, monkeypatch):
    """Tokens that decode to another word would be searched in the audio in vain."""
    speller = SubwordTokenizer(PIECES)
    speller.is_byte_pair = splitter == "_merge"
    monkeypatch.setattr(speller, splitter, lambda letters: [PIECES.index(KA)] * len(letters))
    spelt = speller.tokenize(f"{KA}{KHA}")
    assert (spelt.tokens, spelt.covered) == ((WILDCARD,), 0.0)


def test_native_digits_are_wildcards_like_ascii_digits():
    """The model most likely writes number words, so digits of every script are wildcards even where pieces exist."""
    pieces = [*PIECES[:-2], "१", "▁१"]
    native, ascii_digits = (SubwordTokenizer(pieces).tokenize(f"{KA}{KHA} {digits}") for digits in ("१२", "12"))
    assert native == ascii_digits
    assert native.tokens[-1] == WILDCARD
    assert native.covered == 0.5
