"""Tiny weights of the suite `indic` in a VFLEET_WEIGHTS folder, and audio with the rhythm of speech."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import strategies as st

from simulation.tiny_models.conformer import save_conformer
from simulation.tiny_models.language_id import save_mms, save_voxlingua
from validation.domain import SAMPLE_RATE, Utterance, Waveform
from validation.models.batching import pad_batch
from validation.models.conformer.segment import Engine
from validation.models.upload import upload
from validation.models.weights_folder import hash_weights_folders, write_lock

LANGUAGES = ("hi", "or", "ta", "kok", "en", "ur", None)


def save_tiny_weights(root: Path) -> Path:
    save_conformer(root / "indicconformer-600m")
    save_mms(root / "mms-lid-256")
    save_voxlingua(root / "voxlingua107-ecapa")
    return lock(root)


def lock(root: Path) -> Path:
    write_lock(root / "weights.lock", hash_weights_folders(root))
    return root


def voice(duration_s: float, seed: int = 0) -> Waveform:
    """Tones and noise that rise and fall like syllables, with a click on the last sample."""
    generator = np.random.default_rng(seed)
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    syllables = np.abs(np.sin(2 * np.pi * generator.uniform(1, 4) * t)) + 0.1
    sound = np.sin(2 * np.pi * generator.uniform(90, 300) * t) + 0.3 * generator.standard_normal(len(t))
    audio = (generator.uniform(0.01, 0.3) * syllables * sound).astype(np.float32)
    audio[-1] = 1.0
    return audio


def run_engine(engine: Engine, audios: Sequence[Waveform], languages: Sequence[int]) -> SimpleNamespace:
    """The output of an engine of IndicConformer for a padded batch, as arrays."""
    batch = pad_batch([Utterance(audio, "", None) for audio in audios])
    output = engine.run(upload(batch, "cpu"), np.array(languages))
    arrays = {name: getattr(output, name).numpy() for name in ("log_probs", "best_sums", "best_counts")}
    return SimpleNamespace(frames=output.frames, **arrays)


def batches(*, max_size: int = 5) -> st.SearchStrategy[list[Utterance]]:
    """Batches of a few utterances of 0.1 to 30 s."""
    one = st.builds(
        lambda duration_s, seed, language: Utterance(voice(duration_s, seed), "", language),
        st.sampled_from([0.1, 0.11, 0.5, 1.0, 30.0]) | st.floats(0.1, 12.0),
        st.integers(0, 99),
        st.sampled_from(LANGUAGES),
    )
    return st.lists(one, min_size=2, max_size=max_size)
