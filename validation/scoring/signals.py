"""Compute all signals of one segment, by shard column, from its samples, its transcript and the models' answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from validation.domain import (
    MAX_NUMBER,
    SAMPLE_RATE,
    Answer,
    Column,
    DecodedSegment,
    Fault,
    Scalar,
    Scored,
    Seconds,
    Unscored,
    label_fault,
)
from validation.scoring.features import (
    LidPrediction,
    cer,
    chars_per_second,
    compare_romanised,
    compression_ratio,
    count_votes,
    edge_cer_end,
    edge_cer_start,
    find_repetition,
    romanise,
)
from validation.scoring.text import comparable_text, has_digits, latin_fraction, normalise_text, script_fraction
from validation.scoring.waveform import AUDIO_SIGNALS, audio_signals

RECOGNITION_SIGNALS = (
    Column("cer", "float", "ratio", "Edits from transcript to recognised text, per transcript character."),
    Column("edge_cer_start", "float", "ratio", "As `cer`, for the transcript's first 12 characters alone."),
    Column("edge_cer_end", "float", "ratio", "As `cer`, for the transcript's last 12 characters alone."),
    Column("roman_cer", "float", "ratio", "As `cer`, for both texts in Latin letters and without spaces."),
    Column("roman_word_cer", "float", "ratio of a word", "Share of letters edited for `roman_cer`, in the worst word."),
    Column("heard_ratio", "float", "ratio", "Letters of the recognised text per transcript letter, both romanised."),
    Column("heard_inserted", "float", "ratio", "Letters heard but not in the transcript, per transcript letter."),
    Column("heard_deleted", "float", "ratio", "Share of the transcript's letters that were not heard."),
    Column("heard_inserted_run", "float", "letters", "Letters of the longest stretch heard but not in the transcript."),
    Column("heard_repeated", "float", "ratio", "As `repeated_fraction`, for the recognised text."),
    Column("heard_compression", "float", "ratio", "Bytes of the recognised text per byte of its zlib compression."),
)
"""Signals that are computed from the ASR model's answer. When a later answer replaces this answer, it replaces these
signals too."""

DERIVED_SIGNALS = (
    Column("language_code", "str", "ISO 639", "The declared language in its canonical code; null if unknown."),
    Column("duration_s", "float", "seconds", "Length of the decoded audio."),
    Column("length_difference_s", "float", "seconds", "Decoded length minus the length that the record declares."),
    *AUDIO_SIGNALS,
    Column("text_normalised", "str", "text", "The transcript in the normal form of `normalisation_version`."),
    Column("has_digits", "bool", "yes or no", "The transcript spells numbers in digits."),
    Column("script_fraction", "float", "ratio", "Share of the transcript's letters in a script of the language."),
    Column("latin_fraction", "float", "ratio", "Share of the transcript's letters that are Latin."),
    Column("chars_per_s", "float", "characters per second", "Transcript characters, without spaces, per second."),
    Column(
        "repeated_letters", "int", "letters", "Letters of the longest run of words that repeats the words before it."
    ),
    Column("repeated_fraction", "float", "ratio", "`repeated_letters` as a share of the transcript's letters."),
    *RECOGNITION_SIGNALS,
    Column("language_votes_for", "int", "models", "LID models whose first choice is the declared language."),
    Column("language_votes_against", "int", "models", "LID models that know the declared language and name another."),
    Column("language_abstentions", "int", "models", "LID models that gave no answer or do not know that language."),
)
"""Columns of the signals that ``segment_signals`` derives, in the order of the shard."""


@dataclass(frozen=True, slots=True)
class SuiteRoles:
    """The models of a suite, and which of them transcribe or identify languages."""

    models: tuple[str, ...]
    asr_model: str | None = None
    """The model whose column ``text`` is the recognised text."""
    lid_models: tuple[str, ...] = ()
    """Models with the columns ``language`` (their first choice) and ``declared_p``."""
    known_languages: tuple[str, ...] = ()
    """Normalised codes that at least one model of the suite can identify, sorted; empty without such a model."""


def segment_signals(
    decoded: DecodedSegment, answers: Mapping[str, Answer], *, language: str | None, roles: SuiteRoles
) -> dict[str, Scalar]:
    """Compute all signals of a segment. They are the input of the rules and the content of the shard.

    Args:
        decoded: the segment, with its audio or the fault that explains why it has none.
        answers: one answer per model of ``roles.models``. The answers are not read if the models were not asked: the
            segment has no audio, or its label is no language or one that no model knows.
        language: the declared language's normalised code; None if none is declared or its label is no language.
        roles: the models, and which of them transcribe or identify languages.

    Returns:
        ``fault``, the declared ``language``, the ``DERIVED_SIGNALS``, and for each model ``<model>_<column>`` for
        every column of its answer and ``<model>_fault``. The fault is None if the model answered, else
        ``kind: message``. A signal that cannot be known is None. An answer with a number that is not finite, or beyond
        ``MAX_NUMBER``, counts as no answer.
    """
    audio, text = decoded.audio, decoded.segment.text
    duration_s = None if isinstance(audio, Fault) else len(audio) / SAMPLE_RATE
    checked = _check_answers(decoded, answers, roles)
    return {
        "fault": str(audio) if isinstance(audio, Fault) else None,
        "language": decoded.segment.language,
        "language_code": language,
        "duration_s": duration_s,
        "length_difference_s": decoded.length_difference_s,
        **audio_signals(None if isinstance(audio, Fault) else audio),
        **_text_signals(text, language, duration_s),
        **_recognition_signals(text, _recognised_text(checked, roles.asr_model), language),
        **_vote_signals(language, [checked[model] for model in roles.lid_models]),
        **_model_signals(checked),
    }


def _check_answers(decoded: DecodedSegment, answers: Mapping[str, Answer], roles: SuiteRoles) -> dict[str, Answer]:
    """Return one answer per model: a fault if the models were not asked, else the answer of ``_refuse_non_finite``."""
    if isinstance(decoded.audio, Fault):
        return dict.fromkeys(roles.models, Unscored(decoded.audio))
    if fault := label_fault(decoded.segment.language, roles.known_languages):
        return dict.fromkeys(roles.models, Unscored(fault))
    return {model: _refuse_non_finite(answers[model]) for model in roles.models}


def _refuse_non_finite(answer: Answer) -> Answer:
    """Return the answer, or a fault if the answer holds NaN, an infinity or a number beyond ``MAX_NUMBER``."""
    values = answer.values.items() if isinstance(answer, Scored) else ()
    for name, value in values:
        if isinstance(value, float) and not abs(value) <= MAX_NUMBER:
            return Unscored(Fault("not_finite", f"{name} is {value}"))
    return answer


def _text_signals(text: str, language: str | None, duration_s: Seconds | None) -> dict[str, Scalar]:
    """Compute the signals of the transcript alone. ``duration_s`` is None without audio."""
    normal = normalise_text(text)
    repetition = find_repetition(normal, language)
    return {
        "text_normalised": normal,
        "has_digits": has_digits(normal),
        "script_fraction": script_fraction(normal, language),
        "latin_fraction": latin_fraction(normal),
        "chars_per_s": None if duration_s is None else chars_per_second(normal, duration_s),
        "repeated_letters": repetition.letters if repetition else None,
        "repeated_fraction": repetition.fraction if repetition else None,
    }


def _recognition_signals(text: str, recognised: str | None, language: str | None) -> dict[str, Scalar]:
    """Compare the stored transcript with the recognised text; all signals are None without a recognised text."""
    if recognised is None:
        return dict.fromkeys(column.name for column in RECOGNITION_SIGNALS)
    reference, hypothesis = comparable_text(text, language), comparable_text(recognised, language)
    agreement = compare_romanised(romanise(text, language), romanise(recognised, language))
    repetition = find_repetition(recognised, language)
    return {
        "cer": cer(reference, hypothesis),
        "edge_cer_start": edge_cer_start(reference, hypothesis),
        "edge_cer_end": edge_cer_end(reference, hypothesis),
        "roman_cer": agreement.cer if agreement else None,
        "roman_word_cer": agreement.worst_word_share if agreement else None,
        "heard_ratio": agreement.heard_ratio if agreement else None,
        "heard_inserted": agreement.inserted if agreement else None,
        "heard_deleted": agreement.deleted if agreement else None,
        "heard_inserted_run": agreement.longest_inserted if agreement else None,
        "heard_repeated": repetition.fraction if repetition else None,
        "heard_compression": compression_ratio(recognised),
    }


def _recognised_text(answers: Mapping[str, Answer], asr_model: str | None) -> str | None:
    """Return the text that the ASR model recognised; None without such a model, or if it failed or abstained."""
    answer = answers[asr_model] if asr_model else None
    text = answer.values.get("text") if isinstance(answer, Scored) else None
    return None if text is None else str(text)


def _vote_signals(language: str | None, answers: list[Answer]) -> dict[str, Scalar]:
    """Count the votes of the LID models on the declared language, from their answers."""
    votes = count_votes(language, map(_read_prediction, answers))
    return {
        "language_votes_for": votes.agreeing,
        "language_votes_against": votes.opposing,
        "language_abstentions": votes.abstaining,
    }


def _read_prediction(answer: Answer) -> LidPrediction:
    """Return the prediction in the answer of a LID model; both fields are None if the answer is a fault."""
    values = answer.values if isinstance(answer, Scored) else {}
    top1, p_declared = values.get("language"), values.get("declared_p")
    return LidPrediction(None if top1 is None else str(top1), None if p_declared is None else float(p_declared))


def _model_signals(answers: Mapping[str, Answer]) -> dict[str, Scalar]:
    """Return the columns of each model: ``<model>_<column>`` for its values, and ``<model>_fault``."""
    signals: dict[str, Scalar] = {}
    for model, answer in answers.items():
        if isinstance(answer, Scored):
            signals |= {f"{model}_{name}": value for name, value in answer.values.items()}
        signals[f"{model}_fault"] = None if isinstance(answer, Scored) else str(answer.fault)
    return signals
