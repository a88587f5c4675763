"""Find nearly equal texts by MinHash and locality-sensitive hashing (Leskovec, Rajaraman, Ullman 2014, chapter 3).

Two texts are compared by their sets of runs of four characters. Texts with Jaccard similarity s have at least one equal
band with probability 1 - (1 - s ** ROWS) ** BANDS: 0.997 for s = 0.95, 0.95 for 0.9, 0.58 for 0.8, and 0.01 for 0.5.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

BANDS = 6
"""Number of hashes of a text. Texts with one equal hash are nearly equal."""
ROWS = 9
"""Number of minima that one hash combines."""
RUN = 4
"""Number of characters in a run."""
_BLOCK_TEXTS = 20_000
"""Number of texts that are hashed at a time."""
_END = "\0" * (RUN - 1)
"""Characters between two texts, so that a run at the end of a text has none of the next text."""
Hashes = npt.NDArray[np.uint64]
_RANDOM = np.random.default_rng(16)  # fixed: equal texts have equal hashes in every process
_RUN_FACTORS, _MIX, _JOIN = (_RANDOM.integers(1, 2**63, size, np.uint64) * 2 + 1 for size in (RUN, 2, 1))
_FACTORS, _SHIFTS = (_RANDOM.integers(0, 2**63, (BANDS, ROWS), np.uint64) * 2 + odd for odd in (1, 0))


def hash_bands(texts: Sequence[str]) -> Hashes:
    """Return the hashes of texts, of shape ``(texts, BANDS)``. A text must not be empty or hold a null character."""
    blocks = [_hash_block(texts[start : start + _BLOCK_TEXTS]) for start in range(0, len(texts), _BLOCK_TEXTS)]
    return np.concatenate(blocks) if blocks else np.zeros((0, BANDS), np.uint64)


def _hash_block(texts: Sequence[str]) -> Hashes:
    runs = _hash_runs(texts)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = np.cumsum(lengths) - lengths
    return np.column_stack(list(_combine(runs, starts)))


def _hash_runs(texts: Sequence[str]) -> Hashes:
    """Return the hash of the run that begins at each character of the texts. A run may extend beyond its text's end."""
    joined = _END.join([*texts, ""])
    characters = np.frombuffer(joined.encode("utf-32-le"), "<u4").astype(np.uint64)
    begins = np.flatnonzero(characters)
    runs = sum((characters[begins + place] * factor for place, factor in enumerate(_RUN_FACTORS)), np.uint64(0))
    for factor in _MIX:
        runs = (runs ^ (runs >> np.uint64(31))) * factor
    return np.asarray(runs)


def _combine(runs: Hashes, starts: npt.NDArray[np.int64]) -> Iterator[Hashes]:
    """Yield for each band the combined minima of each text."""
    for factors, shifts in zip(_FACTORS, _SHIFTS, strict=True):
        band = np.zeros(len(starts), np.uint64)
        for factor, shift in zip(factors, shifts, strict=True):
            band = (band ^ np.minimum.reduceat(runs * factor + shift, starts)) * _JOIN[0]
        yield band
