"""Whisper-base: identify the language of segments, transcribe them, and score their stored transcripts."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import islice
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Answer, Column, Scalar, Scored, Waveform
from validation.languages import normalize_language_code
from validation.models.base import Batch
from validation.models.batching import split_evenly
from validation.models.weights import find_weights
from validation.models.whisper.network import WhisperNetwork
from validation.models.whisper.tokenizer import TokenizedText, WhisperTokenizer, transfer_casing
from validation.scoring.text import UNSPACED_LANGUAGES, has_digits, normalise_text


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-probabilities of the stored transcript and of the recognised text on the audio, in nats."""

    tokens: int
    """The number of tokens of the transcript, in its likeliest spelling."""
    transcript_lp: float
    """The mean over the tokens of the transcript."""
    greedy_lp: float
    """The mean over the tokens of the recognised text."""
    worst_word_lp: float
    """The lowest mean over the tokens of one word of the transcript."""
    worst_stretch: float | None
    """The result of ``find_worst_stretch``, in nats; None if the tokens of the recognised text cannot be assigned to
    words."""


def compare_likeliest_spelling(
    recognised: TokenizedText | None, spellings: Sequence[TokenizedText], log_ps: Sequence[NDArray[np.float64]]
) -> Likelihood:
    """Compare a transcript, in its likeliest spelling, with the recognised text.

    Args:
        recognised: the recognised text; None if its tokens cannot be assigned to words.
        spellings: the tokenized spellings of the transcript.
        log_ps: the token log-probabilities of the recognised text, then of each spelling.
    """
    greedy, *texts = log_ps
    spelling, log_p = max(zip(spellings, texts, strict=True), key=lambda pair: float(pair[1].mean()))
    words = np.split(log_p, spelling.word_ends[:-1])
    return Likelihood(
        tokens=len(spelling.tokens),
        transcript_lp=float(log_p.mean()),
        greedy_lp=float(greedy.mean()),
        worst_word_lp=min(float(word.mean()) for word in words),
        worst_stretch=None if recognised is None else find_worst_stretch(spelling, log_p, recognised, greedy),
    )


def find_worst_stretch(
    stored: TokenizedText, stored_lp: NDArray[np.float64], heard: TokenizedText, heard_lp: NDArray[np.float64]
) -> float:
    """Compare two texts per stretch of differing words; return the lowest difference of log-probabilities, in nats.

    The difference of a stretch is the log-probability of the stored words less that of the heard words in their place.
    The probability of the stored words alone does not distinguish a rare word from a wrong word. The difference does:
    the heard words are about as likely as a rare word that was said, and far likelier than a wrong word. A stretch
    includes the word after it, because an added or missing word makes the next word unlikely. Equal texts give 0.
    """
    one, other = _normalise_words(stored), _normalise_words(heard)
    one_lp, other_lp = _sum_per_word(stored, stored_lp), _sum_per_word(heard, heard_lp)
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    differing = (
        float(one_lp[start : stop + 1].sum() - other_lp[heard_start : heard_stop + 1].sum())
        for kind, start, stop, heard_start, heard_stop in matcher.get_opcodes()
        if kind != "equal"
    )
    return min(differing, default=0.0)


def make_likelihood_values(likelihood: Likelihood | None) -> Mapping[str, Scalar]:
    """Return the values of the columns that depend on the transcript; all are None if ``likelihood`` is None."""
    if likelihood is None:
        return dict.fromkeys(("tokens", "transcript_lp", "greedy_lp", "align_tok", "align_min", "align_stretch"))
    return {
        "tokens": likelihood.tokens,
        "transcript_lp": likelihood.transcript_lp,
        "greedy_lp": likelihood.greedy_lp,
        "align_tok": likelihood.transcript_lp - likelihood.greedy_lp,
        "align_min": likelihood.worst_word_lp,
        "align_stretch": likelihood.worst_stretch,
    }


def _normalise_words(text: TokenizedText) -> list[str]:
    return [normalise_text(word) for word in text.words]


def _sum_per_word(text: TokenizedText, log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the log-probabilities of the tokens of each word."""
    return np.add.reduceat(log_p, [0, *text.word_ends[:-1]])


WINDOWS_S = (10, 20, 30)
"""The window lengths of the encoder, in seconds. A window of 10 s costs a quarter of Whisper's usual window of 30 s and
identifies languages equally well."""
CONFIDENT_P = 0.5
"""Whisper is confident of a language above this probability, which exceeds that of all other languages together."""
MAX_TRANSCRIPT_TOKENS = 440
"""The longest transcript that is scored. The decoder has 448 positions, of which five are taken."""

_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class SegmentState:
    """The state of one segment while Whisper scores it, piece by piece; most segments have one piece."""

    transcript: str
    declared: str | None
    """The declared language."""
    pieces: tuple[Waveform, ...]
    """The audio, cut by ``split_evenly`` into pieces of at most 30 s."""
    encoded: list[NDArray[np.float32]] = field(default_factory=list)
    """The output of the encoder for each piece."""
    languages_of_pieces: list[Mapping[str, float]] = field(default_factory=list)
    """The probability of each language, by code, for each piece."""
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    """The recognised tokens of each piece."""
    spellings: tuple[TokenizedText, ...] = ()
    """Spellings of the transcript; empty if it is too long or cannot be compared with the recognised text."""
    likelihood: Likelihood | None = None

    @property
    def window_s(self) -> int:
        """The encoder's window for all pieces, in seconds. It depends only on the length of the segment."""
        longest_s = len(self.pieces[0]) / SAMPLE_RATE
        return next(window_s for window_s in WINDOWS_S if longest_s <= window_s)

    @property
    def languages(self) -> Mapping[str, float]:
        """The probability of each language, by code: the mean over the pieces, which are equally long."""
        pieces = self.languages_of_pieces
        return {code: sum(p[code] for p in pieces) / len(pieces) for code in pieces[0]}

    @property
    def declared_p(self) -> float | None:
        """The probability of the declared language; None without a declared language that Whisper knows."""
        return self.languages.get(normalize_language_code(self.declared) or "")

    @property
    def language(self) -> str | None:
        """The language to transcribe in; None if Whisper does not know the declared language.

        It is the likeliest language if none is declared or Whisper is confident of it, else the declared language.
        """
        likeliest, p = max(self.languages.items(), key=lambda item: item[1])
        if not self.declared:
            return likeliest
        if self.declared_p is None:
            return None
        return likeliest if p > CONFIDENT_P else normalize_language_code(self.declared)

    @property
    def allows_numerals(self) -> bool:
        """Whether Whisper may write digits. It may if the transcript has digits or no words.

        In other transcripts numbers are words, and digits in the recognised text would make these words look wrong.
        """
        return has_digits(self.transcript) or not normalise_text(self.transcript)

    @property
    def is_comparable(self) -> bool:
        """Whether the segment has a transcript, and a recognised text that comes from a single piece."""
        return len(self.pieces) == 1 and bool(normalise_text(self.transcript)) and any(self.tokens)

    @property
    def token_sequences(self) -> tuple[tuple[int, ...], ...]:
        """The token sequences whose log-probability is computed: recognised text, then spellings of the transcript.

        The recognised text is that of the first piece: the property is for segments of one piece.
        """
        return (self.tokens[0], *(spelling.tokens for spelling in self.spellings))


class WhisperBase:
    """Whisper-base, the ASR model and LID model of the suite ``local``.

    Whisper transcribes in the declared language, unless it is confident of another language. So a wrong label does not
    make a right transcript look wrong as well. If Whisper does not know the declared language, it abstains: it reports
    the likeliest language (``language``), which then counts as no vote, and nothing about the transcript.

    ``align_tok`` is the mean log-probability of the stored transcript less that of the recognised text, both
    teacher-forced on the same audio, in nats per token. For 23 clips in eight languages it was 0.1 to -1.73 with the
    right transcript, and -2.26 or less with another transcript of the same language. Of transcripts in other languages
    only translations came closer. Sums are not compared, because a recogniser in a loop writes a long text, whose sum
    would make any transcript look likely. The likelier of two spellings of the transcript counts: as stored, or with
    the case and punctuation of the recognised text. The end of the text is not scored. So words that are missing at
    the end of a transcript do not change this score, but they raise the character error rate.

    A segment of more than 30 s is scored in pieces of equal length. The language probabilities are averaged, and the
    texts are joined. The transcript is not scored, because it is not cut into pieces.
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
        Column("align_stretch", "float", "nats", "Worst stretch of words, less what was heard there; 0 if all agree."),
    )

    def __init__(self, *, threads: int) -> None:
        weights = find_weights("whisper-base")
        folder = weights.unpack()
        self._tokenizer = WhisperTokenizer(folder)
        self._network = WhisperNetwork(folder, self._tokenizer, threads=threads)
        self.languages: frozenset[str] | None = frozenset(self._tokenizer.language_of_label.values())
        self.revision = f"{weights.revision}-float32"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score a batch. Segments with different window lengths go through the network separately."""
        rows = zip(batch.texts, batch.languages, batch.waveforms, batch.lengths, strict=True)
        segments = [
            SegmentState(text, language, tuple(split_evenly(row[:length], WINDOWS_S[-1])))
            for text, language, row, length in rows
        ]
        self._encode(segments)
        transcribed = [segment for segment in segments if segment.language]
        self._transcribe(transcribed)
        for segment in transcribed:
            segment.spellings = self._spell(segment)
        self._compare([segment for segment in transcribed if segment.spellings])
        return [Scored(self._make_values(segment)) for segment in segments]

    def _encode(self, segments: Sequence[SegmentState]) -> None:
        """Encode every piece and identify its language."""
        for window_s, group in _group(segments, lambda segment: segment.window_s).items():
            encoded = self._network.encode([piece for segment in group for piece in segment.pieces], window_s)
            items, languages = iter(encoded), iter(self._network.detect_languages(encoded))
            for segment in group:
                segment.encoded = list(islice(items, len(segment.pieces)))
                segment.languages_of_pieces = list(islice(languages, len(segment.pieces)))

    def _transcribe(self, segments: Sequence[SegmentState]) -> None:
        """Transcribe every piece in the language of its segment."""
        groups = _group(segments, lambda segment: (segment.window_s, segment.allows_numerals))
        for (_, numerals), group in groups.items():
            encoded = np.stack([item for segment in group for item in segment.encoded])
            languages = [str(segment.language) for segment in group for _ in segment.pieces]
            tokens = iter(self._network.transcribe(encoded, languages, numerals=numerals))
            for segment in group:
                segment.tokens = list(islice(tokens, len(segment.pieces)))

    def _compare(self, segments: Sequence[SegmentState]) -> None:
        """Compare each transcript, in all its spellings, with the recognised text; set ``likelihood``."""
        groups = _group(segments, lambda segment: (segment.window_s, str(segment.language)))
        for (_, language), group in groups.items():
            texts = [text for segment in group for text in segment.token_sequences]
            copies = [len(segment.token_sequences) for segment in group]
            encoded = np.repeat(np.stack([segment.encoded[0] for segment in group]), copies, axis=0)
            log_ps = iter(self._network.log_probabilities(encoded, language, texts))
            for segment, count in zip(group, copies, strict=True):
                recognised = self._tokenizer.split_tokens(segment.tokens[0], language)
                segment.likelihood = compare_likeliest_spelling(
                    recognised, segment.spellings, list(islice(log_ps, count))
                )

    def _spell(self, segment: SegmentState) -> tuple[TokenizedText, ...]:
        """Tokenize a transcript as stored and as Whisper would write it; drop spellings too long for the decoder."""
        if not segment.is_comparable:
            return ()
        language = str(segment.language)
        spaced = language not in UNSPACED_LANGUAGES
        recased = transfer_casing(segment.transcript, self._tokenizer.decode(segment.tokens[0]), spaced=spaced)
        both = dict.fromkeys(self._tokenizer.tokenize(text, language) for text in (segment.transcript, recased))
        return tuple(spelling for spelling in both if len(spelling.tokens) <= MAX_TRANSCRIPT_TOKENS)

    def _make_values(self, segment: SegmentState) -> Mapping[str, Scalar]:
        """Return the value of each column, by column name, for one segment."""
        language, language_p = max(segment.languages.items(), key=lambda item: item[1])
        text = "".join(map(self._tokenizer.decode, segment.tokens)).strip() if segment.language else None
        return {
            "language": language,
            "language_p": language_p,
            "declared_p": segment.declared_p,
            "text_language": segment.language,
            "text": text,
            **make_likelihood_values(segment.likelihood),
        }


def _group(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> dict[_Key, list[_Item]]:
    """Group items by ``key``. Items keep their order within a group."""
    groups: defaultdict[_Key, list[_Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
