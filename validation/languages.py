"""Map each name and code of a language that the queue, the tars and the models use to one normalised code."""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

MAX_CODE_LETTERS = 3
"""Number of letters of the longest code. A name that is not longer is ignored, because it may be a mistyped code."""

_OTHER_NAMES = {
    "bangla": "bn",
    "brazilian portuguese": "pt",
    "cantonese": "yue",
    "farsi": "fa",
    "greek": "el",
    "kirghiz": "ky",
    "letzeburgesch": "lb",
    "mandarin": "zh",
    "meitei": "mni",
    "meiteilon": "mni",
    "moldavian": "ro",
    "myanmar": "my",
    "nynorsk": "nn",
    "oriya": "or",
    "pushto": "ps",
    "sinhalese": "si",
}
"""Common names of languages that ISO 639 does not list, with the normalised code."""

_ALIASES = {
    # Codes of individual languages that transcribers and MMS-LID use where others use the code of the macrolanguage.
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
    # Codes that ISO 639 has withdrawn. Whisper uses `jw`, VoxLingua107 uses `iw` and `jw`, Java uses `in` and `ji`.
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
}
"""Codes whose normalised code differs from the one that the table of ISO 639 gives."""

_NO_LANGUAGE = frozenset({"mis", "mul", "und", "zxx"})
"""Codes of ISO 639 that denote no language: uncoded, multiple, undetermined, no linguistic content."""

_HINDI_BELT = frozenset(
    "awa bfy bgc bgq bho bns bra gbm hne kfy mag mtr mup mwr noe raj sck sgj".split()  # noqa: SIM905 - one line
)
"""Mother tongues that the Census of India 2011 (Language, Statement 1) counts as Hindi: Awadhi, Bagheli, Haryanvi,
Bagri, Bhojpuri, Bundeli, Braj, Garhwali, Chhattisgarhi, Kumaoni, Magahi, Mewari, Malvi, Marwari, Nimadi, Rajasthani,
Sadri and Surgujia. Maithili is not included, because the census counts it as a separate scheduled language."""


@lru_cache(maxsize=1 << 12)
def normalize_language_code(label: str | None) -> str | None:
    """Return the normalised code of a language: ISO 639-1 if the language has such a code, else ISO 639-3.

    The function accepts codes of ISO 639-1, 639-2 and 639-3 and English names (``Hindi``), in upper or lower case. It
    drops a region, script or qualification (``pt-BR``, ``zh_Hant``, ``Hindi (India)``). It is idempotent.

    Args:
        label: a code or a name of a language; None if no language is declared.

    Returns:
        The code; None if there is no label, or if the label denotes no language of ISO 639.
    """
    if not label:
        return None
    written = label.strip().lower()
    tag = written.replace("_", "-").partition("-")[0].partition(" (")[0]
    return _codes().get(tag) or _names().get(written) or _names().get(tag)


def list_language_spellings(labels: Iterable[str]) -> list[str]:
    """Return all codes and names of the given languages, in lower case and sorted.

    A label that denotes no language of ISO 639 is returned in lower case. The ledger compares the labels of the queue,
    without region and script, with these spellings (``sql/functions/is_language.sql``).
    """
    found = {label: normalize_language_code(label) for label in labels}
    spelled = (_spellings()[code] if code else {label.strip().lower()} for label, code in found.items())
    return sorted(set().union(*spelled))


@lru_cache(maxsize=1 << 12)
def to_macrolanguage(code: str) -> str:
    """Map a language variety to the language for which it counts when models vote on the language.

    The result is Hindi for the mother tongues of the Hindi belt, else the macrolanguage of ISO 639, else the code
    itself. A language with an ISO 639-1 code stays itself: LID models and transcribers distinguish Serbian from
    Croatian, and Indonesian from Malay.

    Args:
        code: a normalised code, or any label of a model.
    """
    if code in _HINDI_BELT:
        return "hi"
    # A code of ISO 639-1 always stays itself, so the slow import of the table is not needed for such a code.
    return _macrolanguages().get(code, code) if len(code) == MAX_CODE_LETTERS else code


@cache
def _codes() -> Mapping[str, str]:
    """Map every code of ISO 639-1, 639-2 and 639-3 that denotes a language, and every alias, to its normalised code.

    The library ``iso639`` takes 0.4 s to import, so it is imported at the first look-up.
    """
    from iso639 import ALL_LANGUAGES  # noqa: PLC0415 - see above

    codes: dict[str, str] = {}
    for language in ALL_LANGUAGES:
        written = (language.part1, language.part2b, language.part2t, language.part3)
        codes |= {code: language.part1 or language.part3 for code in written if code}
    codes |= _ALIASES
    return {written: code for written, code in codes.items() if code not in _NO_LANGUAGE}


@cache
def _names() -> Mapping[str, str]:
    """Map the English names of ISO 639, in lower case, to the normalised codes.

    Names of at most three letters are left out, because they may be codes. The map also holds each name without its
    qualification (``Nepali (macrolanguage)``), unless two languages then have the same name. If a withdrawn code and a
    code in force have the same name, the code in force counts: ``Croatian`` is ``hr``, not ``scr``.
    """
    from iso639 import ALL_LANGUAGES  # noqa: PLC0415 - as in `_codes`

    languages = sorted(ALL_LANGUAGES, key=lambda language: (language.status != "A", language.part3))  # from a set
    written = [(language.name, language.part3) for language in languages]
    written += [(name.print, language.part3) for language in languages for name in language.other_names or ()]
    names: dict[str, str] = {}
    for name, part3 in written:
        if len(name) > MAX_CODE_LETTERS and (code := _codes().get(part3)):
            names.setdefault(name.lower(), code)
    bare: dict[str, set[str]] = {}
    for name, code in names.items():
        base = name.partition(" (")[0]
        if len(base) > MAX_CODE_LETTERS:
            bare.setdefault(base, set()).add(code)
    unambiguous = {base: codes.pop() for base, codes in bare.items() if len(codes) == 1}
    return unambiguous | names | _OTHER_NAMES


@cache
def _spellings() -> Mapping[str, set[str]]:
    """Map each normalised code to every code and name that is normalised to it."""
    spellings: dict[str, set[str]] = {}
    for written in (*_codes(), *_names()):
        spellings.setdefault(str(normalize_language_code(written)), set()).add(written)
    return spellings


@cache
def _macrolanguages() -> Mapping[str, str]:
    """Map the ISO 639-3 code of each individual language without an ISO 639-1 code to its macrolanguage's code."""
    from iso639 import ALL_LANGUAGES  # noqa: PLC0415 - as in `_codes`

    return {
        language.part3: _codes()[language.macrolanguage]
        for language in ALL_LANGUAGES
        if language.macrolanguage and not language.part1
    }
