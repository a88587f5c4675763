"""All that is said of one segment by its samples, its text and the models, by the names of shard columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from validation.domain import (
    SAMPLE_RATE,
    Answer,
    Column,
    DecodedSegment,
    Fault,
    Scalar,
    Scored,
    Seconds,
    Unscored,
    Waveform,
)
from validation.scoring.audio import clipped_fraction, rms_dbfs
from validation.scoring.cer import cer, chars_per_second, edge_cer_end, edge_cer_start
from validation.scoring.language import LidPrediction, count_votes
from validation.scoring.scripts import latin_fraction, script_fraction
from validation.scoring.text import comparable_text, has_digits, normalise_text

DERIVED_SIGNALS = (
    Column("language_code", "str", "ISO 639", "The declared language in its canonical code; null if unknown."),
    Column("duration_s", "float", "seconds", "Length of the decoded audio."),
    Column("length_difference_s", "float", "seconds", "Decoded length minus the length that the record declares."),
    Column("rms_dbfs", "float", "dBFS", "Root mean square level; digital silence is -120."),
    Column("clipped_fraction", "float", "ratio", "Share of samples at or beyond 0.99 of full scale."),
    Column("text_normalised", "str", "text", "The transcript in the normal form of `normalisation_version`."),
    Column("has_digits", "bool", "yes or no", "The transcript spells numbers in digits."),
    Column("script_fraction", "float", "ratio", "Share of the transcript's letters in a script of the language."),
    Column("latin_fraction", "float", "ratio", "Share of the transcript's letters that are Latin."),
    Column("chars_per_s", "float", "characters a second", "Transcript characters, without spaces, by duration."),
    Column("cer", "float", "ratio", "Edits from transcript to recognised text, per transcript character."),
    Column("edge_cer_start", "float", "ratio", "The same for the transcript's first 12 characters alone."),
    Column("edge_cer_end", "float", "ratio", "The same for the transcript's last 12 characters alone."),
    Column("language_votes_for", "int", "judges", "Judges whose first choice is the declared language."),
    Column("language_votes_against", "int", "judges", "Judges who know the language and hear another."),
    Column("language_abstentions", "int", "judges", "Judges who do not know it, or gave no answer."),
)
"""What ``segment_signals`` derives, in the order of the shard's columns."""


@dataclass(frozen=True, slots=True)
class SuiteRoles:
    """What scoring needs to know of a suite: who is in it, and whom it asks for what."""

    models: tuple[str, ...]
    transcriber: str | None = None
    """The model whose column ``text`` is what was heard."""
    judges: tuple[str, ...] = ()
    """Models with the columns ``language`` (their first choice) and ``declared_p``."""


def segment_signals(
    decoded: DecodedSegment, answers: Mapping[str, Answer], *, language: str | None, roles: SuiteRoles
) -> dict[str, Scalar]:
    """Gather everything that is known of a segment: what rules judge and shards keep.

    Args:
        decoded: the segment, with its audio or the reason why it has none.
        answers: one answer a model of ``roles.models``; not looked at where there is no audio.
        language: the declared language's canonical code, None where nobody declared one.
        roles: which models answered, and for what.

    Returns:
        ``fault``, the ``DERIVED_SIGNALS``, and for each model ``<model>_<column>`` for all that it said and
        ``<model>_fault``: None exactly if it answered, else ``kind: message``. A signal that cannot be known
        is None. A model that answered with a number that is not finite gave no answer.
    """
    audio, text = decoded.audio, decoded.segment.text
    duration_s = None if isinstance(audio, Fault) else len(audio) / SAMPLE_RATE
    settled = _settle_answers(audio, answers, roles.models)
    return {
        "fault": _spell(audio) if isinstance(audio, Fault) else None,
        "language_code": language,
        "duration_s": duration_s,
        "length_difference_s": decoded.length_difference_s,
        "rms_dbfs": None if isinstance(audio, Fault) else rms_dbfs(audio),
        "clipped_fraction": None if isinstance(audio, Fault) else clipped_fraction(audio),
        **_text_signals(text, language, duration_s),
        **_recognition_signals(text, _spoken_text(settled, roles.transcriber), language),
        **_vote_signals(language, [settled[judge] for judge in roles.judges]),
        **_model_signals(settled),
    }


def _settle_answers(
    audio: Waveform | Fault, answers: Mapping[str, Answer], models: tuple[str, ...]
) -> dict[str, Answer]:
    """Give each model one answer: what cannot be heard was asked of nobody."""
    if isinstance(audio, Fault):
        return dict.fromkeys(models, Unscored(audio))
    return {model: _refuse_non_finite(answers[model]) for model in models}


def _refuse_non_finite(answer: Answer) -> Answer:
    """Take an answer with a NaN or an infinity for none: that is a failure which looks like a score."""
    values = answer.values.items() if isinstance(answer, Scored) else ()
    for name, value in values:
        if isinstance(value, float) and not isfinite(value):
            return Unscored(Fault("not_finite", f"{name} is {value}"))
    return answer


def _text_signals(text: str, language: str | None, duration_s: Seconds | None) -> dict[str, Scalar]:
    normal = normalise_text(text)
    return {
        "text_normalised": normal,
        "has_digits": has_digits(normal),
        "script_fraction": script_fraction(normal, language),
        "latin_fraction": latin_fraction(normal),
        "chars_per_s": None if duration_s is None else chars_per_second(normal, duration_s),
    }


def _recognition_signals(text: str, spoken: str | None, language: str | None) -> dict[str, Scalar]:
    """Compare the stored transcript with what was heard; nothing can be said where nothing was recognised."""
    if spoken is None:
        return {"cer": None, "edge_cer_start": None, "edge_cer_end": None}
    reference, hypothesis = comparable_text(text, language), comparable_text(spoken, language)
    return {
        "cer": cer(reference, hypothesis),
        "edge_cer_start": edge_cer_start(reference, hypothesis),
        "edge_cer_end": edge_cer_end(reference, hypothesis),
    }


def _spoken_text(settled: Mapping[str, Answer], transcriber: str | None) -> str | None:
    answer = settled[transcriber] if transcriber else None
    text = answer.values.get("text") if isinstance(answer, Scored) else None
    return None if text is None else str(text)


def _vote_signals(language: str | None, judgements: list[Answer]) -> dict[str, Scalar]:
    votes = count_votes(language, map(_opinion, judgements))
    return {
        "language_votes_for": votes.agreeing,
        "language_votes_against": votes.opposing,
        "language_abstentions": votes.abstaining,
    }


def _opinion(answer: Answer) -> LidPrediction:
    values = answer.values if isinstance(answer, Scored) else {}
    top1, p_declared = values.get("language"), values.get("declared_p")
    return LidPrediction(None if top1 is None else str(top1), None if p_declared is None else float(p_declared))


def _model_signals(settled: Mapping[str, Answer]) -> dict[str, Scalar]:
    signals: dict[str, Scalar] = {}
    for model, answer in settled.items():
        if isinstance(answer, Scored):
            signals |= {f"{model}_{name}": value for name, value in answer.values.items()}
        signals[f"{model}_fault"] = None if isinstance(answer, Scored) else _spell(answer.fault)
    return signals


def _spell(fault: Fault) -> str:
    return f"{fault.kind}: {fault.message}"
