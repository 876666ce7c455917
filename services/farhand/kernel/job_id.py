"""Public job ids: the queue's key, made unguessable at a glance and safe to mistype.

A job's key is a bigint from one sequence. Its public id is a bijection of it (no
second column, no second index): multiplied by an odd constant modulo 2^60,
written as 12 characters of Crockford's base 32 behind one check character. It is
no secret; access is checked where the job is read.
"""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"o": 0, "i": 1, "l": 1}
_BITS = 60
_MASK = (1 << _BITS) - 1
_FACTOR = 0x9E3779B97F4A7C5 | 1
_INVERSE = pow(_FACTOR, -1, 1 << _BITS)
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def encode(key: int) -> str:
    """The public id of a key, 1 ≤ key < 2^60."""
    if not 0 < key <= _MASK:
        raise ValueError(f"job key {key} is out of range")
    number = (key * _FACTOR) & _MASK
    return _ALPHABET[number % 31] + "".join([_PAIRS[(number >> shift) & 1023] for shift in (50, 40, 30, 20, 10, 0)])


def decode(job_id: str) -> int | None:
    """The key of a public id; None where it can't be one."""
    if len(job_id) != 13:
        return None
    try:
        digits = [_VALUES[character] for character in job_id.lower()]
    except KeyError:
        return None
    number = 0
    for digit in digits[1:]:
        number = number << 5 | digit
    if number % 31 != digits[0]:
        return None
    return (number * _INVERSE) & _MASK or None
