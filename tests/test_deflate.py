# SPDX-License-Identifier: MIT
"""Deflate streams written bit by bit. zlib is the oracle for which of them break RFC 1951's rules.
These are refused, with one exception: libdeflate gives a meaning to some codes that have none, and
what it reads to the end is taken as it reads it."""
import zlib

import pytest

from lib.builder import Image
from lib.core import Image as Opened
from lib.core import QcowError

pytestmark = pytest.mark.usefixtures("core")

SIZE = 512
DATA = b"a" * SIZE
# The code in which code lengths are written: 0..14 in four bits, 16 and 18 in five. Complete.
LENGTH_CODE = {**dict.fromkeys(range(15), 4), 16: 5, 18: 5}
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
FIXED = {
    **dict.fromkeys(range(144), 8),
    **dict.fromkeys(range(144, 256), 9),
    **dict.fromkeys(range(256, 280), 7),
    **dict.fromkeys(range(280, 288), 8),
}


def canonical(lengths):
    """Symbol -> its bits, first bit first."""
    code, previous, codes = 0, 0, {}
    for symbol in sorted(lengths, key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - previous
        previous = lengths[symbol]
        codes[symbol] = format(code, f"0{previous}b")
        code += 1
    return codes


def number(value, bits):
    """A number's bits, the lowest first."""
    return format(value, f"0{bits}b")[::-1] if bits else ""


def pack(bits):
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def zeros(count, codes):
    """This number of code lengths of 0."""
    out = ""
    while count >= 11:
        out += codes[18] + number(min(count, 138) - 11, 7)
        count -= min(count, 138)
    return out + codes[0] * count


def dynamic(
    literals, distances, body, last=True, literal_count=286, distance_count=30, overrun=False
):
    """A block. `literals` and `distances` are code lengths; `body` makes the bits of the two
    codes."""
    codes = canonical(LENGTH_CODE)
    out = (
        number(int(last), 1)
        + "01"
        + number(literal_count - 257, 5)
        + number(distance_count - 1, 5)
        + number(15, 4)
    )
    out += "".join(number(LENGTH_CODE.get(symbol, 0), 3) for symbol in ORDER)
    lengths = [literals.get(symbol, 0) for symbol in range(literal_count)]
    lengths += [distances.get(symbol, 0) for symbol in range(distance_count)]
    at = 0
    while at < len(lengths):
        run = next((i for i, length in enumerate(lengths[at:]) if length), len(lengths) - at)
        if run == 0:
            out += codes[lengths[at]]
        elif overrun and at + run == len(lengths):
            out += codes[18] + number(127, 7)
        else:
            out += zeros(run, codes)
        at += max(run, 1)
    return out + body(canonical(literals), canonical(distances))


LITERALS = {97: 1, 256: 2, 285: 2}


def run_of_a(literals, distances):
    """512 letters: one, 258 at distance 1, 253 more, the end."""
    return literals[97] + literals[285] + distances.get(0, "0") + literals[97] * 253 + literals[256]


def other_distance(literals, distances):
    """The same with a distance of the bit pattern that means nothing."""
    return literals[97] + literals[285] + "1" + literals[97] * 253 + literals[256]


def fixed(symbol, distance="00000"):
    """A fixed block that ends the stream: a letter, a match, as many letters as are missing."""
    codes = canonical(FIXED)
    return "110" + codes[97] + codes[symbol] + distance + codes[97] * 253 + codes[256]


def half(literals, distances):
    return literals[97] * 200 + literals[256]


def second_fixed(symbol):
    codes = canonical(FIXED)
    return "110" + codes[symbol] + "00000" + codes[97] * (512 - 200 - 258) + codes[256]


TWO = {0: 1, 1: 1}
GOOD = {
    "complete codes": dynamic(LITERALS, TWO, run_of_a),
    "one distance code": dynamic(LITERALS, {0: 1}, run_of_a),
    "few codes": dynamic(LITERALS, TWO, run_of_a, distance_count=2),
    "no distance code, none used": dynamic(
        {97: 1, 256: 1}, {}, lambda codes, _: codes[97] * 512 + codes[256]
    ),
    "fixed codes": fixed(285),
    "two blocks": dynamic(LITERALS, TWO, half, last=False) + second_fixed(285),
    "more than a cluster": dynamic(
        LITERALS, TWO, lambda *codes: run_of_a(*codes)[:-2] + codes[0][97] * 9 + codes[0][256]
    ),
}
BAD = {
    "no end of block": dynamic({97: 1, 285: 1}, TWO, lambda codes, _: codes[97] * 512),
    "an incomplete literal code": dynamic({97: 2, 256: 2, 285: 2}, TWO, run_of_a),
    "a distance before the start": dynamic(LITERALS, TWO, lambda *codes: run_of_a(*codes)[1:]),
    "a block of the reserved type": dynamic(LITERALS, TWO, half, last=False) + "111",
    "no end": dynamic(LITERALS, TWO, half, last=False),
}
# What zlib refuses, and some versions of libdeflate take for something that has a meaning.
UNDEFINED = {
    "a distance code without a meaning": dynamic(LITERALS, {0: 1}, other_distance),
    "a distance where no distance has a code": dynamic(LITERALS, {}, run_of_a),
    "too many literal codes": dynamic(LITERALS, TWO, run_of_a, literal_count=288),
    "too many distance codes": dynamic(LITERALS, TWO, run_of_a, distance_count=32),
    "a run of code lengths past the last code": dynamic(
        LITERALS, TWO, run_of_a, distance_count=13, overrun=True
    ),
    "length code 286 in a fixed block": fixed(286),
    "distance code 30 in a fixed block": fixed(285, "11110"),
    "length code 286 in the second block": dynamic(LITERALS, TWO, half, last=False)
    + second_fixed(286),
}


def image_of(stream):
    image = Image(4096, 9)
    image.disk.compressed(0, DATA, pack(stream))
    return image.build()


def by_zlib(stream):
    inflate = zlib.decompressobj(-15)
    data = inflate.decompress(pack(stream), SIZE)
    if len(data) < SIZE:
        raise zlib.error("it ends too early")
    return data


@pytest.mark.parametrize("name", GOOD)
def test_good_stream(name, tmp_path):
    assert by_zlib(GOOD[name]) == DATA
    path = tmp_path / "image.qcow2"
    path.write_bytes(image_of(GOOD[name]))
    with Opened(path) as opened:
        assert opened.view().read(0, SIZE) == DATA


@pytest.mark.parametrize("name", BAD)
def test_bad_stream(name, tmp_path):
    with pytest.raises(zlib.error):
        by_zlib(BAD[name])
    path = tmp_path / "image.qcow2"
    path.write_bytes(image_of(BAD[name]))
    with Opened(path) as opened:
        with pytest.raises(QcowError, match="its deflate stream is damaged") as caught:
            opened.view().read(0, SIZE)
    assert caught.value.code == "CORRUPT"


@pytest.mark.parametrize("name", UNDEFINED)
def test_code_without_a_meaning(name, tmp_path):
    with pytest.raises(zlib.error):
        by_zlib(UNDEFINED[name])
    path = tmp_path / "image.qcow2"
    path.write_bytes(image_of(UNDEFINED[name]))
    with Opened(path) as opened:
        try:
            assert opened.view().read(0, SIZE) == DATA
        except QcowError as error:
            assert error.code == "CORRUPT" and "its deflate stream is damaged" in str(error)


@pytest.mark.parametrize("name", [name for name in UNDEFINED if "second" not in name])
def test_code_without_a_meaning_in_a_stream_that_does_not_end(name, tmp_path):
    """Where libdeflate does not come to the end, zlib decides."""
    path = tmp_path / "image.qcow2"
    path.write_bytes(image_of("0" + UNDEFINED[name][1:]))  # the last block is not marked as such
    with Opened(path) as opened:
        with pytest.raises(QcowError, match="its deflate stream is damaged"):
            opened.view().read(0, SIZE)
