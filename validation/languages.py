"""One code per language: the queue, the tars and the models each write a language in their own way."""

from collections.abc import Mapping
from functools import cache, lru_cache

MAX_CODE_LETTERS = 3
"""Letters of the longest code. A shorter name is not looked up: it may be a mistyped code."""

_OTHER_NAMES = {"bangla": "bn", "meitei": "mni", "oriya": "or", "sinhalese": "si"}
"""Names in common use that ISO 639 lacks."""

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
"""Codes that replace those of ISO 639."""

_HINDI_BELT = frozenset(
    "awa bfy bgc bgq bho bns bra gbm hne kfy mag mtr mup mwr noe raj sck sgj".split()  # noqa: SIM905 - one line
)
"""Mother tongues that the Census of India 2011 (Language, Statement 1) counts as Hindi: Awadhi, Bagheli, Haryanvi,
Bagri, Bhojpuri, Bundeli, Braj, Garhwali, Chhattisgarhi, Kumaoni, Magahi, Mewari, Malvi, Marwari, Nimadi, Rajasthani,
Sadri and Surgujia. Maithili is a scheduled language of its own."""


@lru_cache(maxsize=1 << 12)
def normalize_language_code(label: str | None) -> str | None:
    """Return the one code that all signals use for a language: ISO 639-1 where it exists, else ISO 639-3.

    Accepts the codes of ISO 639-1, 639-2 and 639-3, and English names (``Hindi``), in any case. What follows the
    language in a tag is dropped (``pt-BR``, ``zh_Hant``). Idempotent.

    Returns:
        The code, or None for no label and for a label that ISO 639 does not know.
    """
    if not label:
        return None
    written = label.strip().lower()
    tag = written.replace("_", "-").split("-")[0]
    return _codes().get(tag) or _names().get(written) or _names().get(tag)


@lru_cache(maxsize=1 << 12)
def fold_lect(code: str) -> str:
    """Return the language that a lect counts as in a vote: the macrolanguage of ISO 639, or Hindi for the Hindi belt.

    A language with an ISO 639-1 code of its own is not folded: LID models and transcribers tell Serbian from Croatian
    and Indonesian from Malay.

    Args:
        code: a normalised code, or any label of a model.
    """
    if code in _HINDI_BELT:
        return "hi"
    return _macrolanguages().get(code, code)


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


@cache
def _names() -> Mapping[str, str]:
    """Map every English name of ISO 639, in lower case, to the normalised code; names of three letters may be codes."""
    from iso639 import ALL_LANGUAGES  # noqa: PLC0415 - as in `_codes`

    names: dict[str, str] = {}
    for language in ALL_LANGUAGES:
        code = _codes()[language.part3]
        others = [name.print for name in language.other_names or ()]
        for name in (language.name, *others):
            if len(name) > MAX_CODE_LETTERS:
                names.setdefault(name.lower(), code)
    return names | _OTHER_NAMES


@cache
def _macrolanguages() -> Mapping[str, str]:
    """Map the ISO 639-3 code of each individual language without an ISO 639-1 code to its macrolanguage's code."""
    from iso639 import ALL_LANGUAGES  # noqa: PLC0415 - as in `_codes`

    return {
        language.part3: _codes()[language.macrolanguage]
        for language in ALL_LANGUAGES
        if language.macrolanguage and not language.part1
    }
