"""Write reviewed segments as a folder of trusted clips, which `vfleet calibrate` reads."""

import json
from collections.abc import Sequence
from pathlib import Path

from validation.analysis.explore.audio import SourceAudio, encode_wav
from validation.analysis.explore.reviews import Review
from validation.errors import BadInput
from validation.files import write_atomically
from validation.languages import normalize_language_code


def write_trusted_clips(reviews: Sequence[Review], audio: SourceAudio, folder: Path) -> dict[str, str]:
    """Write the audio of each segment whose right text and language are known, and ``manifest.jsonl``.

    Args:
        reviews: the decisions. A segment counts if it was accepted, or if its text was corrected.
        audio: the source.
        folder: where to write; made if missing.

    Returns:
        The trusted segments that could not be written, with the reason.

    Raises:
        BadInput: no decision gives a text, or the folder cannot be written.
    """
    trusted = [review for review in reviews if review.trusted_text]
    if not trusted:
        raise BadInput("no decision accepts a segment or corrects its text, so there is no trusted clip")
    left_out: dict[str, str] = {}
    entries = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, review in enumerate(sorted(trusted, key=lambda each: (each.video_id, each.segment_index))):
            samples = audio.read(review.video_id, review.segment)
            language = normalize_language_code(review.language) if review.language else None
            if isinstance(samples, str) or language is None:
                name = f"{review.video_id}/{review.segment_index}"
                left_out[name] = samples if isinstance(samples, str) else f"its language {review.language!r} is unknown"
                continue
            file = f"{number:06d}.wav"
            write_atomically(folder / file, encode_wav(samples))
            entries.append({"file": file, "text": review.trusted_text, "language": language, "video": review.video_id})
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        write_atomically(folder / "manifest.jsonl", "".join(lines))
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}") from None
    return left_out
