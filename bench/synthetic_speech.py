"""Synthetic speech of known sentences, by the synthesiser espeak-ng of the distribution (`apt-get install espeak-ng`).

Recognisers hear it less well than people's speech: results on it are reported apart.
"""

import io
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import soundfile
import soxr

from validation.calibration.trusted_clips import TrustedClip
from validation.domain import SAMPLE_RATE
from validation.errors import BadInput

SENTENCES = Path(__file__).with_name("sentences.toml")
VOICES = ("", "+f3")
"""Variants of each language's voice, in turn."""
LEAD_S = 0.15
"""Silence before the speech: espeak-ng begins with the first sound, as a recording that was cut does."""


def speak_sentences(path: Path = SENTENCES) -> list[TrustedClip]:
    """Speak every sentence of a file of sentences by language.

    Raises:
        BadInput: espeak-ng is not installed, or cannot speak a language.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise BadInput("espeak-ng is not installed: apt-get install espeak-ng, or leave it out with --natural-only")
    sentences = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        TrustedClip(f"espeak-{language}-{place}", _speak(program, language, place, text), text, language, True)
        for language, texts in sentences.items()
        for place, text in enumerate(texts)
    ]


def _speak(program: str, language: str, place: int, text: str) -> np.ndarray:
    voice = language + VOICES[place % len(VOICES)]
    done = subprocess.run([program, "-v", voice, "--stdout", text], capture_output=True, check=False)
    if done.returncode:
        raise BadInput(f"espeak-ng cannot speak {language}: {done.stderr.decode(errors='replace').strip()}")
    samples, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    pause = np.zeros(int(LEAD_S * SAMPLE_RATE), np.float32)
    return np.concatenate([pause, np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), dtype=np.float32)])
