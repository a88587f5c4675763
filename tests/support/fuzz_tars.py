"""Damage to tars: tars of every layout and header format, with real speech in several codecs, mutated at random."""

import gzip
import json
import random
import tarfile

from tests.support.corpus_samples import encode, make_tar, read_speech
from tests.support.layout_helpers import lines, make_cut

_BLOCK, _MAX_FLIPS, _MAX_GARBAGE_BYTES = 512, 20, 3000
_HEADER_FIELDS = ((0, 100), (100, 108), (124, 136), (148, 156), (156, 157), (157, 257), (257, 265), (345, 500))
"""Name, mode, size, checksum, type, link, magic and prefix of a header, and where each starts and stops."""
_TYPES = b"01234567LKxgXSDMNVAZ\0\xff"
_SIZES = (
    b"77777777777\0",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"00000000000\0",
    b"-0000000001\0",
    b"9" * 12,
    bytes(12),
)


def make_tars() -> list[bytes]:
    """Make the undamaged tars."""
    clip = read_speech("en_hello_world")[:8000]
    flac, opus, mp3 = encode(clip), encode(clip, "OGG", "OPUS"), encode(clip, "MP3")
    long = "a" * 120 + "/" + "b" * 120 + ".flac"
    row = {"text": "hello", "start": 0.0, "end": 0.4}
    layouts: list[dict[str, bytes | object]] = [
        {"metadata.json": {"language": "en"}, "segments/0.flac": flac, "segments/0.json": row, "segments/1.opus": opus},
        {"a.mp3": mp3, "a.txt": "héllo".encode(), long: flac, long.replace("flac", "json"): row},
        {"manifest.jsonl": lines({"audio_filepath": "a.flac", "text": "x", "duration": 0.5}), "a.flac": flac},
        {"talk.flac": flac, "talk.json": {"segments": [row, row], "text": "hello"}},
        {"cuts.jsonl.gz": gzip.compress(lines(make_cut("c/1", row))), "c/1.flac": flac},
        {"x.flac": flac, "x.json": json.dumps({"deep": [[[[[[1]]]]]], "text": "é\ud800"}).encode()},
    ]
    styles = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    tars = [make_tar(files, style=style) for files in layouts for style in styles if long not in files or style]
    return [*tars, *(gzip.compress(packed, mtime=0) for packed in tars[::4])]


def mutate_tar(packed: bytes, rng: random.Random) -> bytes:
    """Damage a tar in one to three ways; a gzip tar is damaged inside or outside its compression."""
    if packed.startswith(b"\x1f\x8b") and rng.random() < 0.5:
        return gzip.compress(mutate_tar(gzip.decompress(packed), rng), 1, mtime=0)
    damaged = bytearray(packed)
    for _ in range(rng.randrange(1, 4)):
        rng.choice(_MUTATIONS)(damaged, rng)
    return bytes(damaged)


def _headers(tar: bytearray) -> list[int]:
    return [place for place in range(0, len(tar) - _BLOCK + 1, _BLOCK) if tar[place + 257 : place + 262] == b"ustar"]


def _seal(tar: bytearray, place: int) -> None:
    """Write the right checksum, so that the damage reaches what is behind it."""
    block = tar[place : place + _BLOCK]
    tar[place + 148 : place + 156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))


def _flip_bits(tar: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, _MAX_FLIPS)):
        if tar:
            tar[rng.randrange(len(tar))] ^= 1 << rng.randrange(8)


def _cut(tar: bytearray, rng: random.Random) -> None:
    del tar[rng.randrange(len(tar) + 1) :]


def _edit_field(tar: bytearray, rng: random.Random) -> None:
    if not (headers := _headers(tar)):
        return
    place, (start, stop) = rng.choice(headers), rng.choice(_HEADER_FIELDS)
    if (start, stop) == (124, 136):
        value = rng.choice(_SIZES)
    elif stop - start == 1:
        value = bytes([rng.choice(_TYPES)])
    else:
        value = rng.choice(
            [rng.randbytes(stop - start), b"../" * 33, b"/" + b"x" * 9, bytes(stop - start), b"\xff\x0a" * 50]
        )
    tar[place + start : place + stop] = value[: stop - start].ljust(stop - start, b"\0")
    if rng.random() < 0.9:
        _seal(tar, place)


def _move_member(tar: bytearray, rng: random.Random) -> None:
    """Repeat a member, or move it to another place, with all or only some of its blocks."""
    if not (headers := _headers(tar)):
        return
    start, place = rng.choice(headers), rng.choice(headers)
    stop = min((other for other in headers if other > start), default=len(tar))
    member = tar[start : rng.choice([stop, start + _BLOCK])]
    if rng.random() < 0.5:
        del tar[start : start + len(member)]
    tar[place:place] = member


def _insert_header(tar: bytearray, rng: random.Random) -> None:
    """Insert an extended or sparse header of PAX or GNU before a member, right or wrong in itself."""
    records = [
        b"25 GNU.sparse.realsize=9\n",
        b"20 path=../../etc/x\n",
        b"16 size=9999999\n",
        b"12 size=-1\n",
        b"999999999 path=x\n",
        b"0 a=b\n",
        b"13 path=\xff\xfe\n",
        b"22 GNU.sparse.major=1\n\n",
    ]
    payload = rng.choice([*records, b"".join(rng.sample(records, 3)), rng.randbytes(rng.randrange(1500)), b"n" * 5000])
    header = tarfile.TarInfo("h" * rng.randrange(1, 90))
    header.type, header.size = rng.choice([b"x", b"g", b"X", b"L", b"K", b"S"]), len(payload)
    block = header.tobuf(tarfile.GNU_FORMAT) + payload.ljust(-(-len(payload) // _BLOCK) * _BLOCK, b"\0")
    place = rng.choice(_headers(tar) or [0])
    tar[place:place] = block[: rng.choice([len(block), len(block), _BLOCK, 300])]


def _damage_text(tar: bytearray, rng: random.Random) -> None:
    """Damage JSON where it is: brackets, quotes, numbers and escapes."""
    places = [place for place in range(len(tar)) if tar[place] in b'{}[]",:'][:2000]
    if places:
        tar[rng.choice(places)] = rng.choice(b'{}[]",:0e-\\n\0\xff')


def _insert(tar: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(tar) + 1)
    tar[place:place] = rng.choice(
        [rng.randbytes(rng.randrange(1, _MAX_GARBAGE_BYTES)), bytes(_BLOCK), bytes(2 * _BLOCK)]
    )


_MUTATIONS = (
    _flip_bits,
    _cut,
    _edit_field,
    _edit_field,
    _move_member,
    _insert_header,
    _insert_header,
    _damage_text,
    _insert,
)
