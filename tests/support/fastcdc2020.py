#!/usr/bin/env python3
"""Cuts bytes from standard input as FORMAT.md 4.3 says, one piece a line: C or Z, and its length.

Written from the paper (Xia et al., "The Design of Fast Content-Defined Chunking for Data
Deduplication Based Storage Systems", TPDS 2020), not from the engine or its crate: one byte at a
time, no table copied. Arguments: smallest, average and largest chunk in bytes, normalisation.
"""

import hashlib
import sys

# The gear of a byte: the first half of MD5 of that byte 64 times.
GEAR = [int.from_bytes(hashlib.md5(bytes([b]) * 64).digest()[:8], "big") for b in range(256)]
assert GEAR[0] == 0x3B5D3C7D207E37DC

# Masks by number of one bits; the crate's documentation lists them.
MASK = {
    9: 0x0000019000353000,
    10: 0x0000590003530000,
    11: 0x0000D90003530000,
    12: 0x0000D90103530000,
    13: 0x0000D90303530000,
    14: 0x0000D90313530000,
    15: 0x0000D90F03530000,
    16: 0x0000D90303537000,
    17: 0x0000D90703537000,
    18: 0x0000D90707537000,
    19: 0x0000D91707537000,
}


def cut(data, at, smallest, average, largest, strict, loose):
    """Returns the length of the chunk that begins at `at`."""
    rest = len(data) - at
    if rest <= smallest:
        return rest
    end = min(rest, largest)
    centre = min(average, end)
    gear, word, value = GEAR, (1 << 64) - 1, 0
    # Two bytes at a time are looked at, so that an odd last byte is not.
    for length in range(smallest, centre // 2 * 2):
        value = ((value << 1) + gear[data[at + length]]) & word
        if value & strict == 0:
            return length
    for length in range(centre // 2 * 2, end // 2 * 2):
        value = ((value << 1) + gear[data[at + length]]) & word
        if value & loose == 0:
            return length
    return end


def zeros(data, at):
    """Returns how many zeros there are from `at` on."""
    rest = data[at:at + (1 << 22)]
    count = len(rest) - len(rest.lstrip(b"\0"))
    return count if count < len(rest) or at + count == len(data) else count + zeros(data, at + count)


def main():
    smallest, average, largest, level = (int(argument) for argument in sys.argv[1:])
    bits = average.bit_length() - 1
    strict, loose = MASK[bits + level], MASK[bits - level]
    data = sys.stdin.buffer.read()
    at, after_zeros, lines = 0, False, []
    while at < len(data):
        run = zeros(data, at)
        if run >= smallest or at + run == len(data) or (after_zeros and run > 0):
            lines.append(f"Z {run}")
            at += run
            after_zeros = True
            continue
        length = cut(data, at, smallest, average, largest, strict, loose)
        lines.append(f"C {length}")
        at += length
        after_zeros = False
    print("\n".join(lines))


main()
