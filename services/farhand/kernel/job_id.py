"""Public ids of jobs, executions and task runs: their keys, made unguessable at a glance and safe to mistype.

A job's key is a bigint from one sequence. Its public id is a bijection of it (no
second column, no second index): multiplied by an odd constant modulo 2^60,
written as 12 characters of Crockford's base 32 behind one check character. It is
no secret; access is checked where the job is read. Executions and task runs have
keys of their own sequences, and a letter before the same 13 characters: "x", "t".
"""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BITS = 60
_MASK = (1 << _BITS) - 1
_FACTOR = 0x9E3779B97F4A7C5 | 1
_INVERSE = pow(_FACTOR, -1, 1 << _BITS)
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
# Crockford's digits (o, i and l are read as 0, 1 and 1) → those that int(…, 32) reads.
_READ = str.maketrans(_ALPHABET + "oil", "0123456789abcdefghijklmnopqrstuv011")


def encode(key: int) -> str:
    """The public id of a key, 1 ≤ key < 2^60."""
    if not 0 < key <= _MASK:
        raise ValueError(f"job key {key} is out of range")
    number = (key * _FACTOR) & _MASK
    return (
        _ALPHABET[number % 31]
        + _PAIRS[number >> 50]
        + _PAIRS[number >> 40 & 1023]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def decode(job_id: str) -> int | None:
    """The key of a public id; None where it can't be one."""
    if len(job_id) != 13 or not (job_id.isascii() and job_id.isalnum()) or "u" in job_id.lower():
        return None
    try:
        number = int(job_id.lower().translate(_READ), 32)
    except ValueError:
        return None
    check, number = number >> _BITS, number & _MASK
    if number % 31 != check:
        return None
    return (number * _INVERSE) & _MASK or None


def execution_id(key: int) -> str:
    """The public id of an execution."""
    return "x" + encode(key)


def execution_key(id: str) -> int | None:
    """The key of an execution's public id; None where it can't be one."""
    return decode(id[1:]) if id[:1] in ("x", "X") else None


def task_run_id(key: int) -> str:
    """The public id of a task run."""
    return "t" + encode(key)
