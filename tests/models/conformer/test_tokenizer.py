import io
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.tiny_models.conformer import LETTERS, make_pieces
from validation.models.conformer.tokenizer import SubwordTokenizer
from validation.models.ctc import WILDCARD
from validation.scoring.text import normalise_text

PIECES = make_pieces(LETTERS["hi"])
SPELLER = SubwordTokenizer(PIECES)
KA, KHA, GA = "कखग"


def read(tokens, pieces=PIECES):
    return "".join("*" if token == WILDCARD else pieces[token] for token in tokens).replace("▁", " ").strip()


@pytest.fixture(scope="module")
def trained():
    """A byte-pair vocabulary as NeMo has them made, by SentencePiece itself."""
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


def test_spelling_is_the_tokenizers_own(trained):
    """From the list of pieces alone, in the order of their merges, every text is spelt as by the tokenizer's file."""
    processor, words = trained
    pieces = [processor.id_to_piece(token) for token in range(processor.get_piece_size())]
    speller = SubwordTokenizer(pieces)
    assert speller.is_byte_pair
    rng = random.Random(5)
    texts = [" ".join(rng.choices(words, k=7)) for _ in range(50)]
    texts += ["".join(rng.choices("कखगाििीीुे", k=12)) for _ in range(50)]
    for text in texts:
        assert list(speller.spell(text).tokens) == processor.encode(text)


@settings(deadline=None)
@given(st.text(alphabet="".join(piece for piece in PIECES if len(piece) == 1 and piece != "▁") + "  ", max_size=40))
def test_a_spelling_reads_back(text):
    """What the vocabulary can spell is spelt whole: the tokens read as the text again."""
    spelt = SPELLER.spell(text)
    assert read(spelt.tokens) == " ".join(unicodedata.normalize("NFC", text).split())
    assert spelt.covered == (1.0 if text.split() else None)
    assert spelt.spelt == len(spelt.tokens) == len(spelt.words)


def test_a_vocabulary_in_no_order_of_merges_is_spelt_with_the_fewest_pieces():
    """A vocabulary of another kind is noticed, and its longest pieces are used."""
    pieces = ["<unk>", f"▁{KA}{KHA}{GA}", "▁", KA, KHA, GA, KHA + GA + KA]
    speller = SubwordTokenizer(pieces)
    assert not speller.is_byte_pair
    assert read(speller.spell(KA + KHA + GA + KHA + GA + KA).tokens, pieces) == KA + KHA + GA + KHA + GA + KA
    assert len(speller.spell(KA + KHA + GA + KHA + GA + KA).tokens) == 2


@pytest.mark.parametrize(
    ("text", "spelling", "covered"),
    [
        (f"{KA}{KHA}। {GA}, {KA}!", f"{KA}{KHA} {GA} {KA}", 1.0),  # nobody says a danda
        (f"{KA} COVID {KHA}", f"{KA}* {KHA}", 2 / 7),
        (f"{KA} COVID test {KHA}", f"{KA}* {KHA}", 2 / 11),
        (f"{KA}19", f"{KA}*", 1 / 3),
        (f"{KA}\u200d{KHA}", f"{KA}{KHA}", 1.0),  # a joiner that the vocabulary lacks
        ("only Latin", "*", 0.0),
        ("। — …", "", None),
        ("", "", None),
    ],
)
def test_what_cannot_be_spelt_is_passed_over(text, spelling, covered):
    """Letters and digits of no piece are a wildcard, one a stretch; what is not spoken is nothing at all."""
    spelt = SPELLER.spell(text)
    assert read(spelt.tokens) == spelling
    assert spelt.covered == (None if covered is None else pytest.approx(covered))


def test_tokens_know_their_words():
    """A word's tokens carry its ordinal; wildcards belong to none."""
    spelt = SPELLER.spell(f"{KA}{KHA}{GA} xyz {GA}{KA}")
    own = dict.fromkeys(spelt.words)
    assert list(own) == [0, -1, 2]
    assert [token == WILDCARD for token in spelt.tokens] == [word == -1 for word in spelt.words]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_spelling(text):
    """Nothing that a tar may hold raises; wildcards never stand side by side, and coverage is a share."""
    spelt = SPELLER.spell(text)
    assert all(not left == right == WILDCARD for left, right in zip(spelt.tokens, spelt.tokens[1:], strict=False))
    assert spelt.covered is None or 0 <= spelt.covered <= 1
    assert (spelt.covered is not None) == bool(spelt.tokens)
    if not normalise_text(text):
        assert spelt.covered is None


@pytest.mark.parametrize("splitter", ["_merge", "_fewest_pieces"])
def test_what_does_not_read_back_is_passed_over(splitter, monkeypatch):
    """A word that comes back as another is none of the transcript's: its tokens would be looked for in the audio, and
    not be there."""
    speller = SubwordTokenizer(PIECES)
    speller.is_byte_pair = splitter == "_merge"
    monkeypatch.setattr(speller, splitter, lambda letters: [PIECES.index(KA)] * len(letters))
    spelt = speller.spell(f"{KA}{KHA}")
    assert (spelt.tokens, spelt.covered) == ((WILDCARD,), 0.0)
