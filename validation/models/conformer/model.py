"""IndicConformer-600M: transcribe segments, score their stored transcripts, and identify one of 22 languages."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from validation.domain import Answer, Column, Scalar, Scored, Unscored
from validation.hardware.device import Device, DeviceConfig, device_from_settings
from validation.languages import normalize_language_code
from validation.models.base import Answering, Batch
from validation.models.batching import too_short_fault
from validation.models.compiled import compile_from_settings
from validation.models.conformer.graph import count_symbols, read_graph
from validation.models.conformer.mel import MIN_SAMPLES
from validation.models.conformer.onnx_engine import OnnxEngine
from validation.models.conformer.onnx_to_torch import load_torch_engine
from validation.models.conformer.segment import (
    FRAME_S,
    MAX_PIECE_S,
    Engine,
    HostOutput,
    SegmentResult,
    join_pieces,
    score_transcripts,
    worst_window_lp,
)
from validation.models.conformer.tokenizer import SubwordTokenizer, TokenizedTranscript, read_vocabulary
from validation.models.upload import upload_pieces
from validation.models.weights_folder import open_weights_folder
from validation.settings import load_settings

log = logging.getLogger(__name__)


class IndicConformer:
    """IndicConformer-600M, the ASR model of the suite ``indic`` and one of its LID models.

    The model transcribes in the declared language, with the subword pieces of that language. If the model does not know
    the declared language, it abstains: it reports which of its 22 languages fits best, which then counts as no vote,
    and nothing about the transcript.

    ``align_tok`` is the log-probability of the transcript less that of the recognised text, in nats per token of the
    transcript. Both are sums over all alignments. The value is 0 for equal texts, whatever the pauses and the length,
    and may be slightly above 0 for others. Characters that the vocabulary cannot spell (Latin letters, most digits) are
    skipped; ``covered`` is the share of the other characters.

    A segment of more than 30 s is cut into audio pieces of equal length, which go through the network separately. Their
    frames are joined before any score is computed, so such a segment has all values. Only words at a cut are recognised
    less well.
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
            "greedy_tok", "float", "nats a token", "The same by the recognised tokens: how sure it is of what it heard."
        ),
        Column(
            "align_tok", "float", "nats a token", "(transcript_lp - greedy_lp) / tokens: far below 0 for other speech."
        ),
        Column("align_frame", "float", "nats a frame", "The likeliest alignment's, less the likeliest path's of all."),
        Column("align_min", "float", "log-probability", "The least likely word's on that alignment, mean over tokens."),
        Column("align_window", "float", "nats a frame", "As `align_frame`, in the least likely second alone."),
        Column("first_token_s", "float", "seconds", "From the beginning to the transcript's first token."),
        Column("last_token_s", "float", "seconds", "From the transcript's last token to the end."),
    )

    def __init__(
        self,
        *,
        threads: int,
        root: Path | None = None,
        device_config: DeviceConfig | None = None,
        engine: Literal["onnx", "torch"] | None = None,
    ) -> None:
        """Load the network from its folder, which has the layout of the published repository. Nothing is downloaded.

        Args:
            threads: the number of CPU threads; not used on a GPU.
            root: the folder of all weights folders; VFLEET_WEIGHTS if None.
            device_config: the device, and for ``torch`` the precision; None reads them from the settings.
            engine: ``onnx`` (always in single precision) or ``torch``; see ``choose_engine`` for None.

        Raises:
            WeightsRefused: a file is missing or altered.
            VocabularyRefused: the vocabulary, the masks and the network do not fit each other.
            BadInput: VFLEET_WEIGHTS is not set, a graph is not supported, or the settings ask for a missing GPU.
        """
        weights = open_weights_folder("indicconformer-600m", root)
        device_config = device_config or device_from_settings()
        if device_config.device == "cpu":
            torch.set_num_threads(threads)  # torch computes the features of both engines
        assets, self.device = weights.path / "assets", device_config.device
        self._vocabulary = read_vocabulary(assets, count_symbols(read_graph(assets / "ctc_decoder.onnx")))
        self._engine: Engine
        if choose_engine(engine, self.device) == "onnx":
            self._engine = OnnxEngine(assets, self._vocabulary, threads=threads, device=self.device)
        else:
            self._engine = torch_engine = load_torch_engine(assets, self._vocabulary, device_config)
            compile_from_settings(torch_engine.layers, self.device)
        self._tokenizers = {language: SubwordTokenizer(pieces) for language, pieces in self._vocabulary.pieces.items()}
        byte_pair = sum(tokenizer.is_byte_pair for tokenizer in self._tokenizers.values())
        log.info("%d of %d languages have a byte-pair tokenizer", byte_pair, len(self._tokenizers))
        self.languages: frozenset[str] | None = frozenset(self._vocabulary.languages)
        self.revision = f"{weights.revision}-{self._engine.name}"

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score the segments of a batch. A segment of less than ``MIN_SAMPLES`` samples is ``Unscored``."""
        return self.launch(batch)()

    def launch(self, batch: Batch) -> Answering:
        """Queue the network for a batch; the ONNX engine computes at once.

        The returned function waits for the network, computes texts, languages and alignments, and makes the answers.
        """
        answers: list[Answer] = [Unscored(too_short_fault(int(length), MIN_SAMPLES)) for length in batch.lengths]
        rows = [row for row, length in enumerate(batch.lengths) if length >= MIN_SAMPLES]
        if not rows:
            return lambda: answers
        pieces = upload_pieces(batch, rows, MAX_PIECE_S, self.device)
        languages = [self._find_language(batch.languages[row]) for row in rows]
        # Without a known language the index is 0. Then only values that do not depend on the language are read.
        indices = np.array([self._vocabulary.index_of[language] if language else 0 for language in languages])
        output = HostOutput(self._engine.run(pieces.audio, indices.repeat(pieces.counts)))

        def answer() -> list[Answer]:
            output.wait()
            segments, start = [], 0
            for row, language, count in zip(rows, languages, pieces.counts, strict=True):
                transcript = self._tokenize(language, batch.texts[row])
                joined = join_pieces(output, range(start, start + count))
                segments.append(SegmentResult(language, transcript, *joined))
                start += count
            score_transcripts(segments, self.device, output.ready)
            for row, segment in zip(rows, segments, strict=True):
                answers[row] = Scored(self._make_values(segment, batch.languages[row]))
            return answers

        return answer

    def _find_language(self, declared: str | None) -> str | None:
        """Return the code of a declared language that the model knows, else None."""
        code = normalize_language_code(declared)
        return code if code in self._vocabulary.index_of else None

    def _tokenize(self, language: str | None, text: str) -> TokenizedTranscript | None:
        """Tokenize a transcript in a language; return None if ``language`` is None."""
        return self._tokenizers[language].tokenize(text) if language else None

    def _make_values(self, segment: SegmentResult, declared: str | None) -> Mapping[str, Scalar]:
        """Return the value of each column, by column name, for one segment."""
        return {
            **self._make_language_values(segment, declared),
            **self._make_text_values(segment),
            **_make_transcript_values(segment),
            **_make_score_values(segment),
        }

    def _make_language_values(self, segment: SegmentResult, declared: str | None) -> Mapping[str, Scalar]:
        """Return the values of the columns about the language; all are None if no language has a greedy text."""
        scores = segment.language_scores
        if scores is None:
            return dict.fromkeys(("language", "language_p", "declared_p", "language_margin"))
        best, index = int(scores.p.argmax()), self._vocabulary.index_of.get(normalize_language_code(declared) or "")
        return {
            "language": self._vocabulary.languages[best],
            "language_p": float(scores.p[best]),
            "declared_p": None if index is None else float(scores.p[index]),
            "language_margin": scores.margin,
        }

    def _make_text_values(self, segment: SegmentResult) -> Mapping[str, Scalar]:
        """Return the values of the columns about the recognised text."""
        if segment.language is None:
            return {"text": None, "frames": segment.frames, "blank_rate": None}
        return {
            "text": self._vocabulary.decode(segment.language, segment.greedy),
            "frames": segment.frames,
            "blank_rate": segment.blank_rate,
        }


def choose_engine(engine: Literal["onnx", "torch"] | None, device: Device) -> Literal["onnx", "torch"]:
    """Return ``engine`` or, if None, VFLEET_CONFORMER_ENGINE; ``auto`` is torch on a GPU and ONNX Runtime on a CPU."""
    configured = load_settings().conformer_engine if engine is None else engine
    if configured == "auto":
        return "torch" if device == "cuda" else "onnx"
    return configured


def _make_transcript_values(segment: SegmentResult) -> Mapping[str, Scalar]:
    """Return the values of the columns about the tokens of the transcript; all are None without such tokens."""
    transcript = segment.transcript
    if transcript is None or transcript.covered is None:
        return dict.fromkeys(("tokens", "covered", "feasible"))
    return {"tokens": transcript.known_tokens, "covered": transcript.covered, "feasible": segment.has_alignment}


_SCORE_COLUMNS = (
    "transcript_lp", "greedy_lp", "greedy_tok", "align_tok", "align_frame", "align_min", "align_window",
    "first_token_s", "last_token_s",
)  # fmt: skip


def _make_score_values(segment: SegmentResult) -> Mapping[str, Scalar]:
    """Return the values of ``_SCORE_COLUMNS``; all are None if the transcript was not scored."""
    score, transcript = segment.transcript_score, segment.transcript
    if score is None or transcript is None:
        return dict.fromkeys(_SCORE_COLUMNS)
    return {
        "transcript_lp": score.transcript_lp,
        "greedy_lp": score.greedy_lp,
        "greedy_tok": score.greedy_lp / len(segment.greedy) if segment.greedy else None,
        "align_tok": (score.transcript_lp - score.greedy_lp) / transcript.known_tokens,
        "align_frame": (score.alignment.log_p - segment.max_lp) / segment.frames,
        "align_min": segment.worst_word_lp,
        "align_window": worst_window_lp(score.alignment.frame_lp, segment.best_lp.astype(np.float64)),
        "first_token_s": score.alignment.first_frame * FRAME_S,
        "last_token_s": (segment.frames - 1 - score.alignment.last_frame) * FRAME_S,
    }
