"""One code per language: the queue, the tars and the models each write a language in their own way."""

from collections.abc import Mapping
from functools import cache, lru_cache

_ALIASES = {
    # The individual language that transcribers and MMS-LID write where others write the macrolanguage.
    "cmn": "zh",
    "dgo": "doi",
    "fil": "tl",
    "gom": "kok",
    "kmr": "ku",
    "knn": "kok",
    "nb": "no",
    "nob": "no",
    "npi": "ne",
    "ory": "or",
    "swh": "sw",
    "zlm": "ms",
    # Codes that ISO 639 has withdrawn: Whisper writes `jw`, VoxLingua107 both.
    "iw": "he",
    "jw": "jv",
}
"""Applied to every code before the table of ISO 639 is read."""


@lru_cache(maxsize=1 << 12)
def normalize_language_code(label: str | None) -> str | None:
    """Return the one code that all signals use for a language: ISO 639-1 where it exists, else ISO 639-3.

    Accepts the codes of ISO 639-1, 639-2 and 639-3, in any case. What follows the language in a tag is dropped
    (``pt-BR``, ``zh_Hant``). Idempotent.

    Returns:
        The code, or None for no label and for a label that ISO 639 does not know.
    """
    if not label:
        return None
    return _codes().get(label.strip().lower().replace("_", "-").split("-")[0])


@cache
def _codes() -> Mapping[str, str]:
    """Map every code of ISO 639-1, 639-2 and 639-3, and every alias, to its normalised code.

    The library takes 0.4 s to import, so it is imported at the first look-up.
    """
    from iso639 import ALL_LANGUAGES  # noqa: PLC0415 - see above

    codes: dict[str, str] = {}
    for language in ALL_LANGUAGES:
        written = (language.part1, language.part2b, language.part2t, language.part3)
        codes |= {code: language.part1 or language.part3 for code in written if code}
    return codes | _ALIASES
