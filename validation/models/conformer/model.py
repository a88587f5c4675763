"""IndicConformer-600M: what is said, how well the stored transcript fits, and which of 22 languages it is."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from validation.domain import Answer, Column, Fault, Scalar, Scored, Unscored, Waveform
from validation.hardware.device import DeviceConfig, place_by_settings
from validation.models.base import Batch
from validation.models.conformer.engine import Engine
from validation.models.conformer.graph import count_symbols, read_graph
from validation.models.conformer.mel import SHORTEST_SAMPLES
from validation.models.conformer.onnx_engine import OnnxEngine
from validation.models.conformer.onnx_to_torch import load_torch_engine
from validation.models.conformer.segment import SegmentResult, cut_pieces, join_pieces
from validation.models.conformer.tokenizer import SubwordTokenizer, TokenizedTranscript
from validation.models.conformer.transcript_scoring import compare_transcripts
from validation.models.conformer.vocabulary import read_vocabulary
from validation.models.languages import canonical
from validation.models.weights_folder import open_weights_folder
from validation.settings import load_settings

log = logging.getLogger(__name__)


class IndicConformer:
    """IndicConformer-600M, the transcriber of the suite ``indic`` and one of its language judges.

    It listens in the declared language, among that language's own pieces. Where nobody declared a language that it
    knows it abstains: it says which of its 22 fits best, which is then no vote, and nothing of the transcript.

    ``align_tok`` is the difference between transcript and recognised text, each over all its alignments, in nats a
    token of the transcript: 0 where they are the same, whatever the pauses and the length. It may be a little above 0.
    What the vocabulary cannot spell (Latin letters, most digits) is passed over; ``covered`` says how much is left.

    A segment beyond 30 s is heard in pieces of equal length. Their frames are joined before anything is read from
    them, so such a segment has all answers; only words on a cut suffer.
    """

    name: ClassVar[str] = "conformer"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("language", "str", "ISO 639", "The language whose own writing fits best; null if none would write."),
        Column("language_p", "float", "probability", "Its share among all languages; not calibrated."),
        Column(
            "declared_p", "float", "probability", "The declared language's; null if the model has no such language."
        ),
        Column("language_margin", "float", "nats a token", "By how much the best language fits better than the next."),
        Column("text", "str", "text", "What it heard, in the declared language; null if it abstained."),
        Column("frames", "int", "frames", "Frames of 80 ms."),
        Column("blank_rate", "float", "ratio", "Share of frames with no token: near 1 for silence, or a broken model."),
        Column(
            "tokens", "int", "tokens", "Length of the transcript in the model's pieces, without what is passed over."
        ),
        Column("covered", "float", "ratio", "Share of the transcript's letters, marks and digits that those spell."),
        Column("feasible", "bool", "yes or no", "The transcript's tokens fit in the frames."),
        Column("transcript_lp", "float", "log-probability", "The transcript's, over all alignments."),
        Column("greedy_lp", "float", "log-probability", "The recognised text's, over all alignments."),
        Column(
            "align_tok", "float", "nats a token", "(transcript_lp - greedy_lp) / tokens: far below 0 for other speech."
        ),
        Column("align_frame", "float", "nats a frame", "The likeliest alignment's, less the likeliest path's of all."),
        Column("align_min", "float", "log-probability", "The least likely word's on that alignment, mean over tokens."),
    )

    def __init__(
        self,
        *,
        threads: int,
        root: Path | None = None,
        placement: DeviceConfig | None = None,
        engine: Literal["onnx", "torch"] | None = None,
    ) -> None:
        """Load the network from its folder, as its repository lays it out. Nothing is ever fetched.

        Args:
            threads: threads to compute with on a CPU.
            root: where the folders of all weights lie; VFLEET_WEIGHTS if None.
            placement: where it computes, and for ``torch`` in which precision; by the settings if None.
            engine: what runs it: ``onnx`` in single precision, or ``torch``; VFLEET_CONFORMER_ENGINE if None.

        Raises:
            WeightsRefused: a file is missing or altered.
            VocabularyRefused: vocabulary, masks and network do not belong together.
            BadInput: no folder is named, a graph is not what is known here, or the card cannot be had.
        """
        weights, placement = open_weights_folder("indicconformer-600m", root), placement or place_by_settings()
        if placement.device == "cpu":
            torch.set_num_threads(threads)  # the features are torch's, whoever runs the network
        assets, self._device = weights.path / "assets", placement.device
        self._vocabulary = read_vocabulary(assets, count_symbols(read_graph(assets / "ctc_decoder.onnx")))
        self._engine: Engine = (
            OnnxEngine(assets, self._vocabulary, threads=threads, device=placement.device)
            if (engine or load_settings().conformer_engine) == "onnx"
            else load_torch_engine(assets, self._vocabulary, placement)
        )
        self._spellers = {language: SubwordTokenizer(pieces) for language, pieces in self._vocabulary.pieces.items()}
        merging = sum(speller.is_byte_pair for speller in self._spellers.values())
        log.info("transcripts of %d of %d languages are spelt by merges", merging, len(self._spellers))
        self.languages: frozenset[str] | None = frozenset(self._vocabulary.languages)
        self.revision = f"{weights.revision}-{self._engine.name}"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score a batch."""
        answers: list[Answer] = [Unscored(_too_short(int(length))) for length in batch.lengths]
        audible = [row for row, length in enumerate(batch.lengths) if length >= SHORTEST_SAMPLES]
        listenings = self._listen(batch, audible) if audible else []
        compare_transcripts(listenings, self._device)
        for row, listening in zip(audible, listenings, strict=True):
            answers[row] = Scored(self._describe(listening, batch.languages[row]))
        return answers

    def _listen(self, batch: Batch, rows: Sequence[int]) -> list[SegmentResult]:
        """Put all pieces of all segments through the network together."""
        index_of = self._vocabulary.index_of
        languages = [code if (code := canonical(batch.languages[row])) in index_of else None for row in rows]
        cut = [cut_pieces(batch.waveforms[row, : batch.lengths[row]]) for row in rows]
        audio, lengths = _lay_out([piece for pieces in cut for piece in pieces])
        # Where the language is unknown any will do: only what does not depend on it is read.
        indices = np.array([index_of[language] if language else 0 for language in languages])
        heard = self._engine.hear(audio, lengths, indices.repeat([len(pieces) for pieces in cut]))
        ends = np.cumsum([len(pieces) for pieces in cut])
        return [
            SegmentResult(
                language, self._spell(language, batch.texts[row]), *join_pieces(heard, range(end - len(pieces), end))
            )
            for row, language, pieces, end in zip(rows, languages, cut, ends.tolist(), strict=True)
        ]

    def _spell(self, language: str | None, text: str) -> TokenizedTranscript | None:
        return self._spellers[language].spell(text) if language else None

    def _describe(self, listening: SegmentResult, declared: str | None) -> Mapping[str, Scalar]:
        return {
            **self._describe_languages(listening, declared),
            **self._describe_text(listening),
            **_describe_transcript(listening),
            **_describe_comparison(listening),
        }

    def _describe_languages(self, listening: SegmentResult, declared: str | None) -> Mapping[str, Scalar]:
        opinion = listening.opinion
        if opinion is None:
            return dict.fromkeys(("language", "language_p", "declared_p", "language_margin"))
        best, index = int(opinion.p.argmax()), self._vocabulary.index_of.get(canonical(declared) or "")
        return {
            "language": self._vocabulary.languages[best],
            "language_p": float(opinion.p[best]),
            "declared_p": None if index is None else float(opinion.p[index]),
            "language_margin": opinion.margin,
        }

    def _describe_text(self, listening: SegmentResult) -> Mapping[str, Scalar]:
        if listening.language is None:
            return {"text": None, "frames": listening.frames, "blank_rate": None}
        return {
            "text": self._vocabulary.read(listening.language, listening.greedy),
            "frames": listening.frames,
            "blank_rate": listening.blank_rate,
        }


def _describe_transcript(listening: SegmentResult) -> Mapping[str, Scalar]:
    transcript = listening.transcript
    if transcript is None or transcript.covered is None:
        return dict.fromkeys(("tokens", "covered", "feasible"))
    return {"tokens": transcript.spelt, "covered": transcript.covered, "feasible": listening.is_feasible}


def _describe_comparison(listening: SegmentResult) -> Mapping[str, Scalar]:
    comparison, transcript = listening.comparison, listening.transcript
    if comparison is None or transcript is None:
        return dict.fromkeys(("transcript_lp", "greedy_lp", "align_tok", "align_frame", "align_min"))
    return {
        "transcript_lp": comparison.transcript_lp,
        "greedy_lp": comparison.greedy_lp,
        "align_tok": (comparison.transcript_lp - comparison.greedy_lp) / transcript.spelt,
        "align_frame": (comparison.alignment.log_p - listening.max_lp) / listening.frames,
        "align_min": listening.worst_word_lp,
    }


def _lay_out(pieces: Sequence[Waveform]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    audio = np.zeros((len(pieces), int(lengths.max())), dtype=np.float32)
    for row, piece in zip(audio, pieces, strict=True):
        row[: len(piece)] = piece
    return audio, lengths


def _too_short(length: int) -> Fault:
    return Fault("too_short", f"{length} samples; the model needs {SHORTEST_SAMPLES}")
