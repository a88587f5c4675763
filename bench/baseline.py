"""The models of the baseline, as the first plan of this fleet described it, with the defaults of each library.

The baseline downloads, scores and writes one video after another. It runs one model after another. Segments keep their
order, with 32 per batch, and are padded to the longest of the batch. The baseline is not slowed down on purpose: it
keeps optimisations that a library does by itself, such as attention by SDPA and the lengths of a classifier's inputs.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from validation.domain import SAMPLE_RATE, Scalar, Utterance
from validation.models.conformer.mel import LogMel
from validation.models.conformer.tokenizer import BLANK, SubwordTokenizer
from validation.models.import_shims import allow_torchaudio, importing_speechbrain
from validation.models.language_id import language_of_label

BATCH = 32
"""Segments per batch: CONFORMER_BATCH_SIZE of the first plan."""
Values = Mapping[str, Scalar]


class StockMms:
    """MMS-LID with the code of its model card, which is extended from one clip to a batch."""

    def __init__(self, weights: Path) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        allow_torchaudio()
        from transformers import AutoFeatureExtractor, Wav2Vec2ForSequenceClassification

        folder = weights / "mms-lid-256"
        self._extractor = AutoFeatureExtractor.from_pretrained(folder)
        self._model = Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()

    def __call__(self, utterances: Sequence[Utterance]) -> list[Values]:
        audio = [utterance.audio for utterance in utterances]
        inputs = self._extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt", padding=True)
        with torch.no_grad():
            p = self._model(**inputs).logits.softmax(-1)
        best = p.max(-1)
        labels = [self._model.config.id2label[int(index)] for index in best.indices]
        return [
            {"language": language_of_label(label), "p": float(v)} for label, v in zip(labels, best.values, strict=True)
        ]


class StockVoxLingua:
    """VoxLingua107 with the method ``classify_batch`` of speechbrain."""

    def __init__(self, weights: Path) -> None:
        with importing_speechbrain(), tempfile.TemporaryDirectory() as gathered:
            from speechbrain.inference.classifiers import EncoderClassifier

            folder = str(weights / "voxlingua107-ecapa")
            self._classifier = EncoderClassifier.from_hparams(
                folder, savedir=gathered, overrides={"pretrained_path": folder}
            )
        self._classifier.hparams.label_encoder.ignore_len()

    def __call__(self, utterances: Sequence[Utterance]) -> list[Values]:
        lengths = torch.tensor([len(utterance.audio) for utterance in utterances])
        waveforms = torch.zeros(len(lengths), int(lengths.max()))
        for row, utterance in zip(waveforms, utterances, strict=True):
            row[: len(utterance.audio)] = torch.from_numpy(utterance.audio)
        _, log_p, _, labels = self._classifier.classify_batch(waveforms, lengths / lengths.max())
        ranked = zip(labels, log_p.exp(), strict=True)
        return [{"language": language_of_label(label), "p": float(p)} for label, p in ranked]


class StockConformer:
    """IndicConformer with its published ``model_onnx.py``: greedy text with the mask of the declared language.

    The published code takes one clip. Here the clips are batched as usual: their features are padded with zeros, and
    their lengths are passed. The other outputs of this project's model are computed clip by clip. These are the
    likelihoods of the transcript and of the recognised text, by torch's ``ctc_loss``, and the language, by scoring
    every mask. The score of the worst word is left out, because torch has no forced alignment.
    """

    def __init__(self, weights: Path) -> None:
        assets = weights / "indicconformer-600m" / "assets"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # as many as torch uses in this benchmark
        self._encoder = onnxruntime.InferenceSession(assets / "encoder.onnx", options)
        self._decoder = onnxruntime.InferenceSession(assets / "ctc_decoder.onnx", options)
        self._vocabulary = json.loads((assets / "vocab.json").read_text())
        masks = json.loads((assets / "language_masks.json").read_text())
        self._columns = {language: np.flatnonzero(mask) for language, mask in masks.items()}
        self._spellers = {language: SubwordTokenizer(pieces[:BLANK]) for language, pieces in self._vocabulary.items()}
        self._mel = LogMel()

    def __call__(self, utterances: Sequence[Utterance]) -> list[Values]:
        features = [self._describe(utterance) for utterance in utterances]
        frames = np.array([feature.shape[1] for feature in features])
        padded = np.zeros((len(features), 80, frames.max()), dtype=np.float32)
        for row, feature in zip(padded, features, strict=True):
            row[:, : feature.shape[1]] = feature
        encoded, lengths = self._encoder.run(
            ["outputs", "encoded_lengths"], {"audio_signal": padded, "length": frames.astype(np.int64)}
        )
        (logits,) = self._decoder.run(["logprobs"], {"encoder_output": encoded})
        rows = zip(utterances, logits, lengths, strict=True)
        return [self._read(logit[:length], utterance) for utterance, logit, length in rows]

    def _describe(self, utterance: Utterance) -> np.ndarray:
        audio = torch.from_numpy(utterance.audio)[None]
        return self._mel(audio, torch.tensor([len(utterance.audio)]))[0][0].numpy()

    def _read(self, logits: np.ndarray, utterance: Utterance) -> Values:
        language = utterance.language or "hi"
        log_p, written = self._write(logits, language)
        pieces = [self._vocabulary[language][i] for i in written]
        spelt = self._spellers[language].tokenize(utterance.text).tokens
        align_tok = (_ctc_lp(log_p, spelt) - _ctc_lp(log_p, written)) / max(1, len(spelt))
        best = max(self._columns, key=lambda language: self._mean_written(logits, language))
        return {"text": "".join(pieces).replace("▁", " ").strip(), "align_tok": align_tok, "language": best}

    def _write(self, logits: np.ndarray, language: str) -> tuple[torch.Tensor, list[int]]:
        log_p = torch.from_numpy(logits[:, self._columns[language]]).log_softmax(-1)
        ids = torch.unique_consecutive(log_p.argmax(-1)).tolist()
        return log_p, [i for i in ids if i != BLANK]

    def _mean_written(self, logits: np.ndarray, language: str) -> float:
        best = torch.from_numpy(logits[:, self._columns[language]]).log_softmax(-1).max(-1)
        new = torch.ones_like(best.indices, dtype=torch.bool)
        new[1:] = best.indices[1:] != best.indices[:-1]
        scores = best.values[new & (best.indices != BLANK)]
        return float(scores.mean()) if len(scores) else -float("inf")


def _ctc_lp(log_p: torch.Tensor, tokens: Sequence[int]) -> float:
    lengths = torch.tensor([len(log_p)]), torch.tensor([len(tokens)])
    target = torch.tensor([tokens])
    loss = torch.nn.functional.ctc_loss(log_p[:, None], target, *lengths, blank=BLANK, reduction="sum")
    return max(-float(loss), -1e4)  # the loss is infinite if there are more tokens than frames allow


STOCK = {"conformer": StockConformer, "mms": StockMms, "voxlingua": StockVoxLingua}
