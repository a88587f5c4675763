"""Whisper's tokenizer is exact, and transcripts take the case and punctuation of the recognised text."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.models.weights import find_weights
from validation.models.whisper.tokenizer import (
    WhisperTokenizer,
    join_words,
    repair_merges,
    split_words,
    transfer_casing,
)
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


WORDS = st.lists(st.sampled_from(["one", "two", "Two", "three,", "—", "चार", "..."]), max_size=8).map(" ".join)
TRANSCRIPTS = st.one_of(WORDS, st.text(max_size=30))


@pytest.mark.parametrize(
    ("transcript", "heard", "spelt"),
    [
        ("and mister dashwood had", "And Mr. Dashwood had.", "And mister Dashwood had."),
        ("Bonjour le monde.", "Bonjour, le monde.", "Bonjour, le monde."),
        ("he was not ill", "", "he was not ill"),
        ("one two", "Something else entirely.", "one two"),
    ],
)
def test_recognised_words_take_the_recognised_casing(transcript, heard, spelt):
    """Case and punctuation come from the recogniser, words from the transcript."""
    assert transfer_casing(transcript, heard, spaced=True) == spelt


def test_without_spaces_characters_are_compared():
    """Japanese and Chinese are compared by character."""
    assert transfer_casing("一二三。四", "一二、三四", spaced=False) == "一二、三四"


@given(TRANSCRIPTS, TRANSCRIPTS)
def test_transferred_casing_changes_no_word(transcript, heard):
    """All letters and numbers of the transcript remain, and no others are added."""
    assert normalise_text(transfer_casing(transcript, heard, spaced=True)) == normalise_text(transcript)


@given(TRANSCRIPTS, st.booleans())
def test_joined_words_are_the_text(text, spaced):
    """Splitting loses only superfluous space."""
    expected = " ".join(text.split()) if spaced else "".join(text.split())
    assert join_words(split_words(text, spaced=spaced), spaced=spaced) == expected


@given(TRANSCRIPTS, st.booleans())
def test_every_word_has_a_letter_or_a_number(text, spaced):
    """Punctuation alone is not a word, so it is never the least likely word."""
    words = split_words(text, spaced=spaced)
    assert len(words) <= 1 or all(normalise_text(word) for word in words)
