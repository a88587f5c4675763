import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.models.weights import find_weights
from validation.models.whisper.tokenizer import WhisperTokenizer, repair_merges
from validation.scoring.text import has_digits, normalise_text


@pytest.fixture(scope="session")
def tokens() -> WhisperTokenizer:
    return WhisperTokenizer(find_weights("whisper-base").unpack())


@pytest.fixture(scope="session")
def published() -> dict:
    return json.loads(find_weights("whisper-base").read("tokenizer.json"))


def test_every_piece_of_the_vocabulary_can_be_tokenized(published):
    """The published file lacks one merge, and with it every word that begins with a space and a ``t``."""

    def unreachable(tokenizer: dict) -> set[str]:
        made = {"".join(merge.split(" ")) for merge in tokenizer["model"]["merges"]}
        return {piece for piece in tokenizer["model"]["vocab"] if len(piece) > 1} - made - {"<|endoftext|>"}

    assert unreachable(published) == {"Ġt"}
    assert unreachable(repair_merges(copy.deepcopy(published))) == set()


def test_a_complete_merge_list_is_unchanged(published):
    """If upstream repairs its file, nothing is inserted twice."""
    once = repair_merges(copy.deepcopy(published))
    assert repair_merges(copy.deepcopy(once)) == once


def test_a_transcript_has_the_tokens_that_whisper_writes(tokens):
    """Common words are single tokens, after a space."""
    spelt = tokens.tokenize("and then there was the time", "en")
    assert [tokens.decode([token]) for token in spelt.tokens] == [" and", " then", " there", " was", " the", " time"]


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("He was not ill - disposed.", "en", [" He", " was", " not", " ill -", " disposed."]),
        ("नमस्ते दुनिया।", "hi", [" नमस्ते", " दुनिया।"]),
        ("ഇത് ഒരു പരീക്ഷണം", "ml", [" ഇത്", " ഒരു", " പരീക്ഷണം"]),
        ("一二三。", "zh", ["一", "二", "三。"]),
    ],
)
def test_tokens_are_assigned_to_their_words(tokens, text, language, words):
    """A byte-level tokenizer may split characters; words stay whole."""
    spelt = tokens.tokenize(text, language)
    spans = zip((0, *spelt.word_ends), spelt.word_ends, strict=False)
    assert [tokens.decode(spelt.tokens[start:stop]) for start, stop in spans] == words


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(normalise_text)


@settings(max_examples=60)
@given(TEXTS, st.sampled_from(["en", "hi", "ja"]))
def test_every_token_belongs_to_one_word(tokens, text, language):
    """Every token belongs to one word, and every word has at least one."""
    spelt = tokens.tokenize(text, language)
    assert list(spelt.word_ends) == sorted(set(spelt.word_ends))
    assert spelt.word_ends[-1] == len(spelt.tokens)
    assert 0 not in spelt.word_ends


def test_a_transcript_cannot_steer_the_decoder(tokens):
    """A special token in a stored transcript is tokenized as plain text."""
    spelt = tokens.tokenize("<|endoftext|> <|en|>", "en")
    assert max(spelt.tokens) < tokens.start_of("en")[0] - 1
    assert tokens.decode(spelt.tokens) == " <|endoftext|> <|en|>"


def test_numerals_are_all_tokens_with_a_digit(tokens):
    """Without them numbers can only be written in words."""
    assert len(tokens.numerals) == 426
    assert all(has_digits(tokens.decode([token])) for token in tokens.numerals)
    assert not any(has_digits(tokens.decode([token])) for token in tokens.tokenize("one two", "en").tokens)
