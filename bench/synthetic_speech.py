"""Make synthetic speech of known sentences with the synthesiser espeak-ng (`apt-get install espeak-ng`).

Recognisers make more errors on synthetic speech than on human speech, so its results are reported separately.
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
"""Suffixes of a language's voice in espeak-ng. The sentences of a language use them in turn."""
LEAD_S = 0.15
"""Seconds of silence that are added before the speech. Without silence, the speech would seem to be cut off."""


def speak_sentences(path: Path = SENTENCES) -> list[TrustedClip]:
    """Synthesise every sentence of a TOML file, which maps language codes to lists of sentences.

    Raises:
        BadInput: espeak-ng is not installed, or has no voice for a language.
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
