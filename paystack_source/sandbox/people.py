"""Invents customers: names in many scripts, free-text phones, odd metadata, bursts and quiet months.

The same seed, count and end date give the same customers. A record is composed as JSON text rather than as
a dict, because a million of them must be ready in seconds. Addresses use only reserved domains.
Shapes and oddities follow real rows published in other projects' fixtures; no value is copied from them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate

DAY = 86_400
YEARS = 3
INTEGRATION = 530_741
FIRST_ID = 20_000_000
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_TRIPLES = [a + b + c for a in _ALPHABET for b in _ALPHABET for c in _ALPHABET]
_CLOCK = [f"T{h:02d}:{m:02d}:" for h in range(24) for m in range(60)]
_SECONDS = [f"{s:02d}.000Z" for s in range(60)]

# (first names, last names, what an address is made of)
_REGIONS: tuple[tuple[str, str, str], ...] = (
    (
        "Adaeze Chinedu Ngozi Olúwaṣeun Adébáyọ̀ Ayọ̀bámi Folákẹ́ Títílayọ̀ Kẹ́hìndé Zainab Ibrahim Aisha Emeka",
        "Okafor Eze Adéwálé Ògúnbánjọ Ṣóyínká Nwosu Bello Abubakar Danjuma Okonkwo Ìdòwú Balogun",
        "ada chinedu ngozi seun bayo ayo folake titi kenny zainab ibrahim aisha emeka",
    ),
    (
        "Kwame Akosua Kofi Ama Yaw Abena Kojo Esi Nana Akua",
        "Mensah Owusu Boateng Asante Appiah Ofori Agyemang Dɔnkɔ Adjei",
        "kwame akosua kofi ama yaw abena kojo esi nana akua",
    ),
    (
        "Wanjiru Otieno Njeri Kamau Achieng Mwangi Chebet Kiptoo Amina Baraka",
        "Ng'ang'a Ochieng' Kariuki Wambui Kimani Odhiambo Mutua Ng'eno",
        "wanjiru otieno njeri kamau achieng mwangi chebet kiptoo amina baraka",
    ),
    (
        "Thandiwe Sipho Nokuthula Pieter Annelie Lerato Tebogo Zoë Chloé Bongani",
        "van der Merwe|Nkosi|D'Oliveira|Mokoena|du Plessis|Dlamini|O'Reilly|Naidoo|Botha",
        "thandi sipho noku pieter annelie lerato tebogo zoe chloe bongani",
    ),
    (
        (
            "محمد فاطمة עמית שרה Ἀλέξανδρος Ελένη Дмитрий Анастасия 伟 秀英 さくら 大翔 지우 민준 अर्जुन प्रिया "
            "สมชาย አበበ"
        ),
        "الأحمد حسن כהן לוי Παπαδόπουλος Иванов Кузнецова 王 李 佐藤 高橋 김 शर्मा ศรีสุข በቀለ",
        "mohamed fatma amit sara alex eleni dmitri ana wei xiu sakura taisho jiwoo min arjun priya som abebe",
    ),
)
# Names that break programs: quotes, formulas, direction marks, emoji sequences, blanks, length.
_AWKWARD = (
    "O'Neil",
    'Ada "Ace"',
    "=SUM(A1:A9)",
    "+27 Sipho",
    "@handle",
    "-dash",
    " Ngozi ",
    "a,b;c",
    "back\\slash",
    "line\nbreak",
    "tab\there",
    "👩🏾‍💻 Ada",
    "🎉",
    "\u202eمحمد\u202c",
    "Zoe\u0301",
    "Ƶalgo\u0336\u0334",
    "null",
    "None",
    "NaN",
    "TRUE",
    "00123",
    "1e5",
    "A" * 180,
    "Robert'); DROP TABLE customers;--",
    "<b>Ada</b>",
    "\u200bzero\u200dwidth",
)
_DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com", "shop.example.org")
# Each table holds one template per share, so a pick by index gives the mix. Filled from `People.make`.
# Nothing known, half known, empty, awkward, and addresses that people really have; most are ordinary.
_ORDINARY = ("%(first)s", "%(last)s", "%(local)s")
_KNOWN = (
    (_ORDINARY,) * 70
    + (("null", "null", "%(local)s"),) * 17
    + (("%(first)s", "null", "%(local)s"),) * 3
    + (('""', '""', "%(local)s"),) * 2
    + (("%(awkward)s", "%(last)s", "%(local)s"),) * 2
    + (("%(first)s", "%(last)s", "%(local)s+shop"),) * 2
    + (("%(first)s", "%(last)s", "%(title)s"),)
    + (("%(first)s", "%(last)s", "o'%(local)s"),)
    + (("%(first)s", "%(last)s", "%(local)s_x-1"),) * 2
)
_PHONES = (
    ("null",) * 5
    + ('"%(plus)s%(eight)s%(two)s"',) * 5
    + ('"%(local_prefix)s%(seven)s"',) * 3
    + ('"%(bare)s%(seven)s%(two)s"', '""', '"%(local_prefix)s %(seven)s / home"')
)
_METADATA = (
    ("null",) * 16
    + ("{}",) * 5
    + ('{"calling_code":"%(plus)s"}',) * 5
    + (
        '{"custom_fields":[{"display_name":"Plan","variable_name":"plan","value":"gold"}],"visits":%(n)d,"vip":true}',
        '{"custom_fields":[{"display_name":"Plan","variable_name":"plan","value":"πλατίνα"}],"visits":0,"vip":false}',
        '{"source":"import","batch":%(n)d,"note":""}',
        '{"tags":["a",1,null,{"deep":{"er":[[]]}}],"ratio":%(n)d.5,"note":null}',
        '{"odd key.with dots":"it\'s","":0,"ключ":"👍🏾","big":90071992547%(seven)s}',
        '{"address":{"street":"%(two)s Awolowo Rd\\nIkoyi","geo":[6.45,3.4]},"ref":null}',
    )
)
_RISK = ("default",) * 94 + ("allow",) * 3 + ("deny",) * 3
# International, local and bare prefix of each region.
_PREFIXES = (
    ("+234", "0803", "234"),
    ("+233", "024", "233"),
    ("+254", "07", "254"),
    ("+27", "063", "27"),
    ("+234", "0803", "234"),
)
# Shares of the population.
_EDITED = 0.25
_QUIET_MONTHS = 0.3
_BURST = 0.003
_MANY_DAYS = 10_000


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _names(words: str) -> list[str]:
    return [_text(word) for word in (words.split("|") if "|" in words else words.split())]


@dataclass(frozen=True)
class Made:
    """One invented customer as the store keeps it."""

    id: int
    created: int
    code: str
    email_key: str
    row: bytes


class People:
    """Makes customers one after another; ids go up, as Paystack's do."""

    def __init__(
        self, seed: int | str, domain: str, last_id: int = FIRST_ID, integration: int = INTEGRATION
    ) -> None:
        # Repeatable data, no secret.
        self._random = random.Random(f"people:{seed}")  # noqa: S311
        self._domain = domain
        self._integration = integration
        self._last_id = last_id
        self._days: dict[int, str] = {}
        self._regions = [(_names(first), _names(last), locals_.split()) for first, last, locals_ in _REGIONS]
        self._awkward = [_text(name) for name in _AWKWARD]

    def iso(self, second: int) -> str:
        """`2016-09-24T00:00:05.000Z`: whole seconds with milliseconds, as lists show times."""
        day, rest = divmod(second, DAY)
        text = self._days.get(day)
        if text is None:
            if len(self._days) > _MANY_DAYS:  # bounded memory
                self._days.clear()
            text = self._days[day] = datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")
        minute, sec = divmod(rest, 60)
        return text + _CLOCK[minute] + _SECONDS[sec]

    def make(self, created: int, until: int) -> Made:
        """A customer created at `created`, last changed no later than `until` (both seconds since 1970)."""
        chance = self._random.random
        bits = self._random.getrandbits(112)
        self._last_id += 1 + int(chance() * 240)
        number = self._last_id
        region = int(chance() * chance() * len(self._regions))  # more Nigerians than anybody else
        firsts, lasts, locals_ = self._regions[region]
        pick, digits = bits & 0xFFFFFFFF, str(bits >> 32)[-9:]
        which = pick % min(len(firsts), len(locals_))
        plus, local_prefix, bare = _PREFIXES[region]
        local = f"{locals_[which]}.{_base36(number)}"
        filling = {
            "first": firsts[which],
            "last": lasts[(pick >> 8) % len(lasts)],
            "local": local,
            "title": local.title(),
            "awkward": self._awkward[(pick >> 4) % len(self._awkward)],
            "plus": plus,
            "local_prefix": local_prefix,
            "bare": bare,
            "two": digits[:2],
            "seven": digits[-7:],
            "eight": digits[-8:],
            "n": pick % 977,
        }
        first, last, local = _KNOWN[(pick >> 20) % 100]
        email = f"{local % filling}@{_DOMAINS[pick % 5]}"
        code = f"CUS_{''.join([_TRIPLES[(bits >> shift) % 46656] for shift in (0, 16, 32, 48, 64)])}"
        updated = created
        if chance() < _EDITED and until > created:
            updated = created + int(chance() * min(until - created, 200 * DAY))
        row = (
            f'{{"integration":{self._integration},"first_name":{first % filling},"last_name":{last % filling},'
            f'"email":"{email}","phone":{_PHONES[(pick >> 4) % 16] % filling},'
            f'"metadata":{_METADATA[(pick >> 12) % 32] % filling},"domain":"{self._domain}",'
            f'"customer_code":"{code}","risk_action":"{_RISK[(pick >> 8) % 100]}","id":{number},'
            f'"createdAt":"{self.iso(created)}","updatedAt":"{self.iso(updated)}"}}'
        )
        return Made(number, created, code, email.lower(), row.encode())


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 46656)
        text = _TRIPLES[digit] + text
    return text.lstrip("0")


def times(count: int, until: int, seed: int | str) -> Iterator[int]:
    """`count` creation times in rising order over three years up to `until` (exclusive).

    Months differ up to a hundredfold (the quiet ones are nearly empty), business grows, and one customer in
    ten arrives in a burst of dozens within one second, as imports and sales do.
    """
    if count <= 0:
        return
    rng = random.Random(f"times:{seed}")  # noqa: S311  # repeatable data, no secret
    days = YEARS * 365
    begin = until - days * DAY
    month_weight = [
        10 ** rng.uniform(-2, 0) if rng.random() < _QUIET_MONTHS else rng.uniform(0.5, 1) for _ in range(37)
    ]
    weights = [month_weight[day // 30] * (1 + 2 * day / days) * rng.uniform(0.6, 1.4) for day in range(days)]
    # Shares rounded on their running sum, so that they add up to exactly `count`.
    running = list(accumulate(weights))
    done = 0
    for day, reached in enumerate(running):
        due = count if day == days - 1 else math.floor(count * reached / running[-1])
        seconds: list[int] = []
        while len(seconds) < due - done:
            second = int(rng.random() * DAY)
            burst = rng.randint(24, 60) if rng.random() < _BURST else 1
            seconds.extend([second] * min(burst, due - done - len(seconds)))
        seconds.sort()
        done = due
        base = begin + day * DAY
        for second in seconds:
            yield base + second
