"""What a plan keeps of the hash of its input, so that the input can be told when it is read again."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

_COST: Final = {"n": 2**14, "r": 8, "p": 1}  # about 50 ms and 16 MB a guess
_SALT_BYTES: Final = 16


def digest_of(sha256: str, *, hides: bool) -> str:
    """What the plan keeps of an input with this hash: `sha256:…`, or `scrypt:salt:…` if its rows hold secrets.

    A plan of identity checks must not help anyone to guess a BVN. If all the rest of a small file is known,
    its plain hash lets a graphics card try all eleven-digit numbers in seconds.
    """
    if not hides:
        return f"sha256:{sha256}"
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt:{salt.hex()}:{_slow(sha256, salt)}"


def digest_fits(digest: str, sha256: str) -> bool:
    """Whether an input with this hash is the one that `digest` was made from."""
    kind, _, rest = digest.partition(":")
    if kind == "sha256":
        return hmac.compare_digest(rest, sha256)
    salt, _, kept = rest.partition(":")
    try:
        return kind == "scrypt" and hmac.compare_digest(kept, _slow(sha256, bytes.fromhex(salt)))
    except ValueError:
        return False


def _slow(sha256: str, salt: bytes) -> str:
    return hashlib.scrypt(bytes.fromhex(sha256), salt=salt, dklen=32, **_COST).hex()
