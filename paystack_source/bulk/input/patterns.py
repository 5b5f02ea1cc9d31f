"""What a cell looks like that is wrong, damaged or suspicious: the patterns, each with its message.

`checks` refuses cells by `SHAPES` and `DAMAGE`; `plan.changes` warns of cells by `SUSPICIOUS` and `ODD_EMAIL`. The
names, lengths and choices of the columns are in `bulk.operations`.
"""

from __future__ import annotations

from typing import Final

Rule = tuple[str, str]
"""A regular expression (RE2), and the message for a wrong cell."""

_UNSEEN: Final = (
    r"\x{ad}\x{34f}\x{61c}\x{115f}\x{1160}\x{17b4}\x{17b5}\x{180b}-\x{180f}\x{200b}\x{200e}\x{200f}\x{2028}-\x{202e}"
    r"\x{2060}-\x{206f}\x{2800}\x{3164}\x{feff}\x{ffa0}\x{fff0}-\x{fffb}\x{e0000}-\x{e0fff}"
)
"""Invisible characters that no name needs; some names need the joiners (200c, 200d) and variants (fe00 to fe0f)."""
_JOINING: Final = r"\x{200c}\x{200d}\x{fe00}-\x{fe0f}"
NOTHING_VISIBLE: Final = rf"^[\s\pZ{_JOINING}{_UNSEEN}]+$"
"""A cell is blank if it matches this."""

_LOCAL: Final = r'[^\s\pZ\pC@<>()\[\],;:\\".]+'
_LABEL: Final = r"[\pL\pN]([\pL\pN\pM-]*[\pL\pN\pM])?"
SHAPES: Final[dict[str, Rule]] = {
    "code": (r"^CUS_[a-z0-9]+$", "is not a customer code (CUS_ and lower-case letters and digits)"),
    "auth_code": (r"^AUTH_[A-Za-z0-9]+$", "is not an authorization code (AUTH_ and letters and digits)"),
    "email": (
        rf"^{_LOCAL}(\.{_LOCAL})*@({_LABEL}\.)+\pL[\pL\pN\pM-]*[\pL\pN\pM]$",
        "is not an email address",
    ),
    "id": (r"^[1-9][0-9]*$", "is not a customer id (a whole number without zeros in front)"),
    "phone": (
        r"^(\+ ?)?[0-9(][0-9 ().\-/]*$",
        "is not a phone number (digits, with + in front, between them spaces and - ( ) . /)",
    ),
    "digits": (r"^[0-9]+$", "holds characters other than digits"),
    "country": (r"^[A-Za-z]{2}$", "is not a country of two letters, e.g. NG"),
}
"""By kind of cell, the pattern that it must match."""

_NUMBERS: Final[tuple[Rule, ...]] = (
    (
        r"^[+-]?[0-9]+([.,][0-9]+)?[eE][+]?[0-9]+$",
        "was shortened by a spreadsheet, digits are lost; store it as text",
    ),
    (  # pandas writes a column of numbers with a gap in it like this
        r"^[+-]?[0-9]+\.0{1,2}$",
        "was read as a number and got a .0, zeros in front may be lost; read the column as text (dtype=str)",
    ),
    (
        r"^[+-]?[0-9]{7,}\.[0-9]{1,3}$",
        "is a number with decimal places, zeros in front may be lost; store it as text",
    ),
    (
        r"^[1-9][0-9]{0,2}([.,][0-9]{3}){3,}([.,]0+)?$",
        "is a number with separators of thousands, zeros in front may be lost; store it as text",
    ),
)
# English and French, which Excel writes in Paystack's countries.
_MONTH: Final = (
    r"(jan(v|uary|vier)?|f[eé]vr?(rier)?|feb(ruary)?|mar(ch|s)?|a[pv]r(il)?|ma[yi]|ju(ne?|in)|ju(ly?|il(let)?)|"
    r"aug(ust)?|ao[uû]t|sept?(ember|embre)?|oct(ober|obre)?|nov(ember|embre)?|d[eé]c(ember|embre)?)\.?"
)
_DATES: Final[tuple[Rule, ...]] = tuple(
    (rf"(?i)^{date}([T ][0-9:.+ Z-]*(am|pm)?)?$", "is a date; a spreadsheet may have made it one")
    for date in (
        "(19|20)[0-9]{2}[-/.][01]?[0-9][-/.][0-3]?[0-9]",
        "[0-3]?[0-9]([-/.])[0-3]?[0-9][-/.]((19|20)[0-9]{2}|[0-9]{2})",
        f"[0-3]?[0-9][- ]{_MONTH}([- ]([0-9]{{2}}|(19|20)[0-9]{{2}}))?",
        f"{_MONTH}[- ]([0-9]{{2}}|(19|20)[0-9]{{2}})",
    )
)
HIDDEN: Final[tuple[Rule, ...]] = (
    (r"[\x00-\x1f\x7f-\x{9f}]", "holds a line break or another control character"),
    (rf"[{_UNSEEN}]", "holds an invisible character; type the value again"),
    (r"\x{fffd}", "holds a character that was lost on its way here (U+FFFD); type the value again"),
)
_MARKED: Final = ("^'", "begins with an apostrophe, as spreadsheets mark a text; remove it")
_NO_EMAIL: Final[tuple[Rule, ...]] = (
    (rf"[{_JOINING}{_UNSEEN}]", "holds an invisible character; type the value again"),
    _MARKED,
    ("^[^@]{65,}@", "is longer than 64 characters before the @"),
    (r"@(.*\.)?[^.]{64,}", "has a part of more than 63 characters behind the @"),
)
DAMAGE: Final[dict[str, tuple[Rule, ...]]] = {
    "phone": (*HIDDEN, *_NUMBERS, *_DATES, _MARKED),
    "digits": (*HIDDEN, *_NUMBERS),
    "id": (*HIDDEN, *_NUMBERS),
    "bank_code": (
        *_NUMBERS,
        *HIDDEN,
        (r"\s", "holds a space, as the name of a bank does; write the bank's code, such as 058"),
        _MARKED,
    ),
    "name": (
        *HIDDEN,
        *_DATES,
        (
            r"[\pL\pM?]\?|\?[\pL\pM]",
            "holds a question mark, which Excel writes for letters that its plain CSV cannot hold; save as CSV UTF-8",
        ),
    ),
    "email": _NO_EMAIL,
}
"""By kind of cell or by column, the patterns of cells that another program damaged; for all others `HIDDEN`."""

_WORD: Final = (
    r"([<(\[]?(null|none|nan|nil|nat|na|undefined|blank|empty|missing|unknown|tbd|not (available|given|known))[>)\]]?"
    r"|#?n/a|n\.a\.?|-|\\n|true|false|vrai|faux|\[object object\])"
)
_BY_PROGRAMS: Final = r"[_\\%=|;$^~@{}\[\]]|\pL\+\pL"
_OF_UTF8: Final = r"[\x{80}-\x{bf}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"  # noqa: RUF001  # what Windows-1252 makes of its bytes
SUSPICIOUS: Final[tuple[Rule, ...]] = (
    (rf"(?i)^{_WORD}(\s+{_WORD})*$|^#(null|ref|value|num|div/0)!$|^#name\?$", "a word like NULL, nan or N/A"),
    (r"(?i)^('*=|'+[+@-]|#|err:[0-9])", "a formula, or an error of a spreadsheet,"),
    (
        rf"[ÂÃÅÄÐÑØÙ]{_OF_UTF8}|â€|(?i:&(#[0-9]+|#x[0-9a-f]+|amp|lt|gt|quot|apos|nbsp);|</?[a-z]+[^>]*>)|{_BY_PROGRAMS}",
        "characters as another program writes them (JosÃ©, Jos_, Jos%C3%A9, &amp;)",
    ),
    (r"""^(b?["“”„].*["“”]|b?'.*'|[‘’‚].*[‘’]|[«»].*[«»]|`.*`)$""", "quotes around the value"),  # noqa: RUF001
    (r"^[^\pL]+$|[^\pL\pM\pZ'’‘ʻʼ`´.,()/&·-]", "no letter, or a digit or sign that a name hardly has,"),  # noqa: RUF001
)
"""Patterns of cells that are sent with a warning. The last pattern is for names only."""
ODD_EMAIL: Final[Rule] = (
    r"[^\x20-\x7e]|[?%]|^[=+#-]",
    "an email with characters that hardly any has (josÃ©@…, jos?@…, =jose@…)",
)
"""The pattern of a new customer's email that is sent with a warning."""
