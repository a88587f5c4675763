"""A transcript spelt as the recogniser would spell it, so that only the words are compared."""

from difflib import SequenceMatcher

from validation.scoring.text import normalise_text


def split_words(text: str, *, spaced: bool) -> list[str]:
    """Cut a text into words, or into characters where a script puts no spaces.

    What has no letter and no number (a dash, a danda by itself) stays with the word before it, the first with the
    word after it.

    Returns:
        Words without surrounding space; joined with ``join_words`` they say the same text. Only a text that has
        no letter and no number at all gives a word without either.
    """
    words: list[str] = []
    for piece in text.split() if spaced else "".join(text.split()):
        if words and not (normalise_text(piece) and normalise_text(words[-1])):
            words[-1] = join_words([words[-1], piece], spaced=spaced)
        else:
            words.append(piece)
    return words


def join_words(words: list[str], *, spaced: bool) -> str:
    return (" " if spaced else "").join(words)


def transfer_casing(transcript: str, heard: str, *, spaced: bool) -> str:
    """Give a transcript the case and punctuation of what was heard, wherever both have the same words.

    A recogniser finds ``and mister dashwood`` unlikely where it would itself write ``And Mister Dashwood,``,
    though every word was said. Words that differ stay as the transcript has them, so a transcript of other
    speech is left as it is.
    """
    stored, recognised = split_words(transcript, spaced=spaced), split_words(heard, spaced=spaced)
    matcher = SequenceMatcher(None, _sounds(stored), _sounds(recognised), autojunk=False)
    spelt: list[str] = []
    for kind, start, stop, heard_start, heard_stop in matcher.get_opcodes():
        spelt += recognised[heard_start:heard_stop] if kind == "equal" else stored[start:stop]
    return join_words(spelt, spaced=spaced)


def _sounds(words: list[str]) -> list[str]:
    return [normalise_text(word) for word in words]
