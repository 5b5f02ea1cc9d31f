"""The digest of an input in its plan: it shows whether the input is the same when it is read again."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

_COST: Final = {"n": 2**14, "r": 8, "p": 1}  # about 50 ms and 16 MB a guess
_SALT_BYTES: Final = 16


def digest_of(sha256: str, *, hides: bool) -> str:
    """The digest for an input's SHA-256: `sha256:…`, or with `hides`, for rows that hold secrets, `scrypt:salt:…`.

    If all other cells of a small file are known, its plain hash lets a graphics card find an eleven-digit BVN in
    seconds.
    """
    if not hides:
        return f"sha256:{sha256}"
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt:{salt.hex()}:{_slow(sha256, salt)}"


def digest_fits(digest: str, sha256: str) -> bool:
    """Whether `digest` was made from an input with this SHA-256."""
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
