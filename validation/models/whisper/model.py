"""Whisper-base: which language is spoken, what is said, and how likely the stored transcript is."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import ClassVar, TypeVar

import numpy as np

from validation.domain import Answer, Column, Scalar, Scored
from validation.models.base import Batch
from validation.models.casing import transfer_casing
from validation.models.weights import find_weights
from validation.models.whisper.network import WhisperNetwork
from validation.models.whisper.segment import Likelihood, SegmentState, best_spelling_score, cut_pieces
from validation.models.whisper.tokenizer import TokenizedText, WhisperTokenizer
from validation.scoring.text import UNSPACED_LANGUAGES

LONGEST_TRANSCRIPT = 440
"""Tokens. The decoder has 448 places, and five are taken."""

_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)


class WhisperBase:
    """Whisper-base, the transcriber and language judge of the suite ``local``.

    It listens in the declared language, unless it is certain of another: a wrong label shall not make a right
    transcript look wrong as well. Where it does not know the declared language it abstains: it says what it hears
    (``language``), which is then no vote, and nothing of the transcript.

    ``align_tok`` compares the stored transcript with the recognised text, both teacher-forced on the same audio, in
    nats a token: 0.1 to -1.73 for what was said in 23 clips of eight languages, -2.26 and below for another transcript
    of the same language (of another language, only translations come closer). It is a difference of means, because a
    recogniser caught in a loop writes a long text whose sum would make any transcript look likely. The transcript
    counts in the likelier of two spellings: as stored, and with the case and punctuation of what was heard. The end
    of the text is not scored, so words missing at the end of a transcript do not show here, but in the character
    error rate.

    A segment beyond 30 s is heard in pieces of equal length: languages are averaged, texts joined, and its
    transcript, which nobody cut into pieces, is not scored.
    """

    name: ClassVar[str] = "whisper"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("language", "str", "ISO 639", "The likeliest language, by the audio alone."),
        Column("language_p", "float", "probability", "Its probability."),
        Column("declared_p", "float", "probability", "The declared language's; null if Whisper has no such language."),
        Column("text_language", "str", "ISO 639", "The language that it listened in; null if it abstained."),
        Column("text", "str", "text", "What it heard. Numbers are words where the transcript has no digits."),
        Column("tokens", "int", "tokens", "Length of the transcript as Whisper spells it."),
        Column("transcript_lp", "float", "log-probability", "The transcript's, mean over its tokens."),
        Column("greedy_lp", "float", "log-probability", "The recognised text's, mean over its tokens."),
        Column("align_tok", "float", "nats a token", "transcript_lp - greedy_lp: far below 0 for other speech."),
        Column("align_min", "float", "log-probability", "The least likely word's, mean over its tokens."),
    )

    def __init__(self, *, threads: int) -> None:
        weights = find_weights("whisper-base")
        folder = weights.lay_out()
        self._tokens = WhisperTokenizer(folder)
        self._network = WhisperNetwork(folder, self._tokens, threads=threads)
        self.languages: frozenset[str] | None = frozenset(self._tokens.language_of_label.values())
        self.revision = f"{weights.revision}-float32"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score a batch. Only segments of one window go through the network together."""
        rows = zip(batch.texts, batch.languages, batch.waveforms, batch.lengths, strict=True)
        hearings = [SegmentState(text, language, cut_pieces(row[:length])) for text, language, row, length in rows]
        self._listen(hearings)
        understood = [hearing for hearing in hearings if hearing.language]
        self._transcribe(understood)
        for hearing in understood:
            hearing.spellings = self._spell(hearing)
        self._compare([hearing for hearing in understood if hearing.spellings])
        return [Scored(self._describe(hearing)) for hearing in hearings]

    def _listen(self, hearings: Sequence[SegmentState]) -> None:
        """Encode every piece, and name its language."""
        for window_s, group in _group(hearings, lambda hearing: hearing.window_s).items():
            encoded = self._network.encode([piece for hearing in group for piece in hearing.pieces], window_s)
            items, languages = iter(encoded), iter(self._network.detect_languages(encoded))
            for hearing in group:
                hearing.encoded = list(islice(items, len(hearing.pieces)))
                hearing.languages_of_pieces = list(islice(languages, len(hearing.pieces)))

    def _transcribe(self, hearings: Sequence[SegmentState]) -> None:
        """Write down every piece in the language of its segment."""
        asked = _group(hearings, lambda hearing: (hearing.window_s, hearing.wants_numerals))
        for (_, numerals), group in asked.items():
            encoded = np.stack([item for hearing in group for item in hearing.encoded])
            languages = [str(hearing.language) for hearing in group for _ in hearing.pieces]
            tokens = iter(self._network.transcribe(encoded, languages, numerals=numerals))
            for hearing in group:
                hearing.tokens = list(islice(tokens, len(hearing.pieces)))

    def _compare(self, hearings: Sequence[SegmentState]) -> None:
        """Score each transcript, in all its spellings, and the recognised text beside it."""
        asked = _group(hearings, lambda hearing: (hearing.window_s, str(hearing.language)))
        for (_, language), group in asked.items():
            texts = [text for hearing in group for text in hearing.texts]
            copies = [len(hearing.texts) for hearing in group]
            encoded = np.repeat(np.stack([hearing.encoded[0] for hearing in group]), copies, axis=0)
            log_ps = iter(self._network.log_probabilities(encoded, language, texts))
            for hearing, count in zip(group, copies, strict=True):
                hearing.likelihood = best_spelling_score(hearing.spellings, list(islice(log_ps, count)))

    def _spell(self, hearing: SegmentState) -> tuple[TokenizedText, ...]:
        """Write a transcript as stored, and as Whisper would, without those that are too long for its decoder."""
        if not hearing.is_comparable:
            return ()
        language = str(hearing.language)
        spaced = language not in UNSPACED_LANGUAGES
        as_heard = transfer_casing(hearing.transcript, self._tokens.read(hearing.tokens[0]), spaced=spaced)
        both = dict.fromkeys(self._tokens.spell(text, language) for text in (hearing.transcript, as_heard))
        return tuple(spelling for spelling in both if len(spelling.tokens) <= LONGEST_TRANSCRIPT)

    def _describe(self, hearing: SegmentState) -> Mapping[str, Scalar]:
        language, language_p = max(hearing.languages.items(), key=lambda item: item[1])
        text = "".join(map(self._tokens.read, hearing.tokens)).strip() if hearing.language else None
        return {
            "language": language,
            "language_p": language_p,
            "declared_p": hearing.declared_p,
            "text_language": hearing.language,
            "text": text,
            **_describe_likelihood(hearing.likelihood),
        }


def _describe_likelihood(likelihood: Likelihood | None) -> Mapping[str, Scalar]:
    if likelihood is None:
        return dict.fromkeys(("tokens", "transcript_lp", "greedy_lp", "align_tok", "align_min"))
    return {
        "tokens": likelihood.tokens,
        "transcript_lp": likelihood.transcript_lp,
        "greedy_lp": likelihood.greedy_lp,
        "align_tok": likelihood.transcript_lp - likelihood.greedy_lp,
        "align_min": likelihood.worst_word_lp,
    }


def _group(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> dict[_Key, list[_Item]]:
    groups: defaultdict[_Key, list[_Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
