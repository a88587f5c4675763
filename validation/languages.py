"""Normalise the names and codes by which the queue, the tars and the models denote a language to one code."""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

MAX_CODE_LETTERS = 3
"""Letters of the longest code. A shorter name is not looked up: it may be a mistyped code."""

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
    # Codes that ISO 639 has withdrawn: Whisper writes `jw`, VoxLingua107 `iw` and `jw`, Java `in` and `ji`.
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
}
"""Codes that replace those of ISO 639."""

_NO_LANGUAGE = frozenset({"mis", "mul", "und", "zxx"})
"""Codes of ISO 639 that name no language: uncoded, several, undetermined, none."""

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
    language is dropped (``pt-BR``, ``zh_Hant``, ``Hindi (India)``). Idempotent.

    Returns:
        The code, or None for no label and for a label that names no language of ISO 639.
    """
    if not label:
        return None
    written = label.strip().lower()
    tag = written.replace("_", "-").partition("-")[0].partition(" (")[0]
    return _codes().get(tag) or _names().get(written) or _names().get(tag)


def spell_languages(labels: Iterable[str]) -> list[str]:
    """Every spelling of some languages in lower case: their codes and names. A label of no language stays as it is.

    The ledger compares labels with these, without their region and script (``sql/functions/is_language.sql``).
    """
    found = {label: normalize_language_code(label) for label in labels}
    spelled = (_spellings()[code] if code else {label.strip().lower()} for label, code in found.items())
    return sorted(set().union(*spelled))


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
    # A code of ISO 639-1 is never folded, so it does not cost the import of the table.
    return _macrolanguages().get(code, code) if len(code) == MAX_CODE_LETTERS else code


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
    codes |= _ALIASES
    return {written: code for written, code in codes.items() if code not in _NO_LANGUAGE}


@cache
def _names() -> Mapping[str, str]:
    """Map every English name of ISO 639, in lower case, to the normalised code; names of three letters may be codes.

    A name is known without its qualification too (``Nepali (macrolanguage)``), unless it then names two languages. A
    withdrawn code never takes a name from a code in force: ``Croatian`` is ``hr``, not ``scr``.
    """
    from iso639 import ALL_LANGUAGES  # noqa: PLC0415 - as in `_codes`

    languages = sorted(ALL_LANGUAGES, key=lambda language: (language.status != "A", language.part3))  # it is a set
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
