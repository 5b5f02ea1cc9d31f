"""A secret key that cannot be printed, logged, pickled or copied into a traceback.

Facts: a secret key is ``sk_test_`` or ``sk_live_`` and 40 letters and digits
(paystack.com/docs/api/authentication; the 40 from the official Postman page). There are no restricted keys:
the key that reads customers can move money.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal, NoReturn, cast

from paystack_source import settings
from paystack_source.errors import ConfigError

Mode = Literal["live", "test"]

_WHERE = "Use the secret key from the Paystack dashboard, Settings > API Keys & Webhooks; it starts with sk_"
_SHAPE = re.compile(r"sk_(test|live)_[A-Za-z0-9_]{4,64}")
_GENUINE = re.compile(r"sk_(test|live)_[A-Za-z0-9]{32,64}")


class SecretKey:
    """A Paystack secret key. Only :meth:`reveal` returns its text."""

    __slots__ = ("__text", "fingerprint", "mode", "source")
    __text: str
    mode: Mode
    fingerprint: str
    source: str
    """Where the key was found: the name of an environment variable, the path of a file, or `an argument`."""

    def __init__(self, text: str, source: str = settings.ARGUMENT_SOURCE) -> None:
        self.__text = text
        self.source = source
        self.mode = cast("Mode", text[3:7])
        self.fingerprint = hashlib.blake2b(
            text.encode(), digest_size=4, person=b"paystack-source"
        ).hexdigest()

    @classmethod
    def parse(cls, text: str | SecretKey | None, source: str = settings.ARGUMENT_SOURCE) -> SecretKey:
        """Check the shape of a key. Raises :class:`ConfigError` with advice, never with the text."""
        problem = _problem(text.reveal() if isinstance(text, SecretKey) else text)
        if problem is None:
            return text if isinstance(text, SecretKey) else cls(cast("str", text), source)
        del text  # or a traceback with locals would show it
        where = "" if source == settings.ARGUMENT_SOURCE else f" It is from {source}."
        raise ConfigError(*problem[:1], advice=f"{problem[1].rstrip('.')}.{where}")

    @classmethod
    def find(cls, section: str = settings.SECTION, pipeline: str | None = None) -> SecretKey:
        """The key of a section of the settings: see :func:`paystack_source.settings.find_key`."""
        found = settings.find_key(section, pipeline)  # its representation hides the text
        return cls.parse(found.text, found.source)

    @property
    def provenance(self) -> dict[str, str]:
        """Where the key came from, and its fingerprint, as two fields of a run's JSON."""
        return {"key_source": self.source, "key_fingerprint": self.fingerprint}

    def reveal(self) -> str:
        """The key itself, for the Authorization header and nothing else."""
        return self.__text

    @property
    def genuine(self) -> bool:
        """Whether it has the shape of Paystack's keys, not of those of the sandbox or another vendor."""
        return _GENUINE.fullmatch(self.__text) is not None

    def __repr__(self) -> str:
        return f"sk_{self.mode}_…"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and other.reveal() == self.__text

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __copy__(self) -> SecretKey:
        return self

    def __deepcopy__(self, memo: object) -> SecretKey:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretKey cannot be pickled: hand the key over in the environment instead")


def _problem(text: object) -> tuple[str, str] | None:
    """What is wrong with a key, and the advice; None if its shape is right. Neither quotes the key."""
    if not isinstance(text, str):
        return "The Paystack key is not a text", _WHERE
    checks = (
        (not text.strip(), "The Paystack key is blank", _WHERE),
        (text != text.strip(), "The Paystack key has white space around it", "Remove it, also a line break."),
        (text.strip("'\"") != text, "The Paystack key has quotes around it", "Give the key without quotes."),
        (text.lower().startswith("bearer "), "The Paystack key starts with 'Bearer'", "Give the key alone."),
        (
            text.startswith("pk_"),
            "This is a public key (pk_...)",
            f"Public keys cannot read customers. {_WHERE}",
        ),
        (not text.startswith(("sk_test_", "sk_live_")), "This is not a Paystack secret key", _WHERE),
        (
            len(text) > len("sk_test_") + 64,
            "This key is too long for a Paystack key",
            "Stripe's keys start in the same way; check that it is not a Stripe key.",
        ),
        (_SHAPE.fullmatch(text) is None, "The Paystack key is cut or has odd characters", f"{_WHERE}."),
    )
    return next(((message, advice) for wrong, message, advice in checks if wrong), None)
