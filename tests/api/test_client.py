"""The seven operations against the sandbox, and what they refuse to send."""

import functools
import inspect
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pendulum
import pytest

from paystack_source import errors
from paystack_source.api import arguments, client, keys, models, wire
from paystack_source.api.arguments import bound
from paystack_source.api.client import PaystackClient
from paystack_source.api.models import IdentificationType, PageMeta, RiskAction
from paystack_source.errors import ConfigError, KeyRefused, NotFound, PermissionRefused, Rejected, Unavailable
from paystack_source.values import parse_time
from tests.api.conftest import KEY
from tests.api.raw_server import RawServer, ok, reply
from tests.events import Gate

IDENTITY = {
    "first_name": "Ada",
    "last_name": "Obi",
    "country": "NG",
    "bank_code": "058",
    "account_number": "0123456789",
    "bvn": "20012345677",
}


ROUND = {}
ROUND["round"] = ROUND
DEEP = functools.reduce(lambda inner, _: [inner], range(5_000), 1)
NO_JSON = (
    *(float("nan"), {float("-inf")}, Decimal("NaN"), {1: (float("inf"),)}, b"\xff", {1}, ROUND, DEEP),
    *(datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.10"), object(), "\ud800"),
)


def body_of(request):
    return json.loads(request.partition("\r\n\r\n")[2])


class TestAgainstTheSandbox:
    def test_create_fetch_update_and_risk(self, sandbox, connect):
        client = connect(sandbox())
        made = client.create(
            "ada@example.com", first_name="Ada", phone="0801", metadata={"tier": [1, {"a": None}]}
        )
        assert made.status == 200
        code = made.data["customer_code"]
        for name in (code, "ada@example.com"):
            found = client.fetch(name).data
            assert (found["first_name"], found["last_name"], found["phone"]) == ("Ada", None, "0801")
            assert found["metadata"] == {"tier": [1, {"a": None}]}
        client.update(code, last_name="Obi", phone=None)
        found = client.fetch(code).data
        assert (found["first_name"], found["last_name"], found["phone"]) == ("Ada", "Obi", None)
        for action in RiskAction:
            client.set_risk_action(code, action)
            assert client.fetch(code).data["risk_action"] == action

    def test_create_with_a_known_email_answers_with_the_existing_customer(self, sandbox, connect):
        client = connect(sandbox())
        first, second = client.create("ada@example.com"), client.create("ada@example.com", first_name="Ada")
        assert first.data["id"] == second.data["id"]

    def test_validate_is_accepted_without_a_verdict(self, sandbox, connect):
        client = connect(sandbox())
        code = client.create("ada@example.com", first_name="Ada", last_name="Obi").data["customer_code"]
        answer = client.validate(code, **IDENTITY, middle_name="N")
        assert (answer.status, answer.data) == (202, None)

    def test_deactivate_works_once(self, sandbox, connect):
        client = connect(sandbox())
        code = client.create("ada@example.com").data["customer_code"]
        authorization = client.fetch(code).data["authorizations"][0]["authorization_code"]
        assert client.deactivate_authorization(authorization).data is None
        with pytest.raises(NotFound):
            client.deactivate_authorization(authorization)

    def test_what_paystack_refuses(self, sandbox, connect):
        server = sandbox(risk_forbidden=True)
        client = connect(server)
        with pytest.raises(NotFound):
            client.fetch("CUS_unknown0000000")
        for who, word in (("CUS_unknown0000000", "mode"), ("ada@example.com", "fetch")):
            with pytest.raises(NotFound, match=word) as caught:
                client.update(who, phone="1")
            assert word in caught.value.advice
        with pytest.raises(PermissionRefused):
            client.set_risk_action("CUS_unknown0000000", "deny")
        with pytest.raises(Rejected):
            client.list(use_cursor=True, next="bogus")
        stranger = PaystackClient("sk_test_stranger", base_url=server.url)
        with pytest.raises(KeyRefused) as caught:
            stranger.list()
        assert caught.value.exit_code == 4
        assert stranger.stats.requests == 1

    @pytest.mark.parametrize("by_cursor", [False, True])
    def test_pages_hold_every_row_once(self, by_cursor, sandbox, connect):
        server = sandbox(customers=45)
        client = connect(server)
        page, rows = client.list(per_page=10, use_cursor=by_cursor), []
        rows += page.rows
        for number in range(2, 6):
            following = {"next": page.meta.next, "use_cursor": True} if by_cursor else {"page": number}
            page = client.list(per_page=10, **following)
            rows += page.rows
        assert [row["id"] for row in rows] == sorted(
            (row["id"] for row in server.customers_truth()), reverse=True
        )
        if by_cursor:
            assert page.meta.next is None
            back = client.list(per_page=10, use_cursor=True, previous=page.meta.previous)
            assert back.rows == rows[30:40]
        else:
            assert page.meta == PageMeta(total=45, page=5, page_count=5, per_page=page.meta.per_page)

    def test_windows_filter_by_creation_time(self, sandbox, connect):
        client = connect(sandbox(customers=60))
        times = sorted(parse_time(row["createdAt"]) for row in client.iterate())
        low, high = times[10], times[40]
        expected = [moment for moment in times if low <= moment < high]
        zone = timezone(timedelta(hours=1))
        for from_, to in ((low, high), (low.astimezone(zone), high.isoformat())):
            rows = client.list(from_=from_, to=to).rows
            assert sorted(parse_time(row["createdAt"]) for row in rows) == expected

    def test_the_quota_is_kept_and_waits_are_told(self, sandbox, clock):
        waits = []
        server = sandbox(customers=5, limit=20, clock=clock.wall)
        client = PaystackClient(
            server.secret_key, base_url=server.url, clock=clock, on_wait=lambda *wait: waits.append(wait)
        )
        with client, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: client.list(per_page=1), range(30)))
        assert client.stats.requests == 30
        assert client.stats.rate_limited == 0
        assert client.stats.waited_seconds > 0
        assert {wait[1:] for wait in waits} == {("list", "quota")}

    def test_how_much_of_the_quota_is_used(self, sandbox):
        server = sandbox(customers=5)
        with PaystackClient(server.secret_key, base_url=server.url, quota_share=0.5) as client:
            for number in range(3):
                assert client.quota_use("list") == (number, 50)
                client.list(per_page=1)
            assert client.quota_use("fetch") == (0, 50)
        with PaystackClient(server.secret_key, base_url=server.url, quota=0) as client:
            assert client.quota_use("list") is None

    @pytest.mark.parametrize(
        ("quota", "share", "may"), [(50, 0.5, 25), (None, 0.5, 300), (1_000, 0.5, 300), (50, 1.0, 50)]
    )
    def test_a_share_is_of_what_may_be_used_whatever_the_headers_say(self, sandbox, quota, share, may):
        server = sandbox(limit=600)
        with PaystackClient(server.secret_key, base_url=server.url, quota=quota, quota_share=share) as client:
            client.list()
            assert client.quota_use("list") == (1, may)

    def test_many_threads_share_one_client(self, sandbox):
        server = sandbox(customers=100)
        Gate(server, lambda: server.stats.max_in_flight < 6)
        with PaystackClient(server.secret_key, base_url=server.url, quota=0, max_in_flight=6) as client:
            with ThreadPoolExecutor(24) as pool:
                pages = list(pool.map(lambda number: client.list(page=number, per_page=5).rows, range(1, 21)))
            assert len({row["id"] for rows in pages for row in rows}) == 100
            assert client.stats.requests == 20
            assert server.stats.max_in_flight == 6


class TestIterate:
    @pytest.mark.parametrize(
        "oddity",
        [
            {},
            {"null_cursor_text": True},
            {"empty_cursor": True},
            {"no_next_key": True},
            {"repeated_cursor": True},
            {"meta_of_other_mode": True},
            {"short_pages": 1.0},
            {"per_page_as_string": True},
            {"per_page_cap": 3},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("customers", [0, 1, 20, 43])
    def test_every_row_comes_once(self, oddity, customers, sandbox, connect):
        server = sandbox(customers=customers, **oddity)
        got = [row["id"] for row in connect(server).iterate(per_page=10)]
        assert sorted(got) == sorted(row["id"] for row in server.customers_truth())

    def page(self, *ids, **meta):
        return ok([{"id": number} for number in ids], meta=meta)

    def got(self, connect, *answers, **options):
        with RawServer(*answers) as server:
            rows = [row["id"] for row in connect(server).iterate(**options)]
        return rows, server.requests

    def test_meta_that_changes_its_kind_on_the_way_is_no_end(self, connect):
        rows, _ = self.got(
            connect,
            self.page(6, 5, next="abc"),
            self.page(4, 3, total=6, page=2, pageCount=3, perPage=2),
            self.page(6, 5, total=6, page=1, pageCount=3, perPage=2),
            self.page(4, 3, total=6, page=2, pageCount=3, perPage=2),
            self.page(2, 1, total=6, page=3, pageCount=3, perPage=2),
        )
        assert rows == [6, 5, 4, 3, 2, 1]

    def test_repeated_rows_come_once(self, connect):
        rows, _ = self.got(connect, self.page(3, 2, next="a"), self.page(2, 1, next="b"), self.page(1, 0))
        assert rows == [3, 2, 1, 0]

    def test_without_any_meta_it_reads_until_nothing_new_comes(self, connect):
        rows, requests = self.got(connect, ok([{"id": 2}]), ok([{"id": 1}]), ok([{"id": 1}]))
        assert rows == [2, 1]
        assert len(requests) == 3

    def test_an_empty_page_ends_a_count_that_promises_too_much(self, connect):
        far = {"total": 10**9, "page": 1, "pageCount": 10**7, "perPage": 100}
        rows, requests = self.got(connect, self.page(1, **far), self.page(**far))
        assert rows == [1]
        assert len(requests) == 2

    def test_rows_without_an_id_are_kept(self, connect):
        with RawServer(ok([{"email": "a"}, {"email": "a"}], meta={"next": None, "perPage": 2})) as server:
            assert len(list(connect(server).iterate())) == 2

    def test_bounds_go_with_every_page(self, connect):
        _, requests = self.got(connect, self.page(2, next="a"), self.page(1, perPage=1), from_="2026-01-01")
        assert all("from=2026-01-01" in request for request in requests)
        assert "next=a" in requests[1]

    def test_wrong_arguments_are_refused_at_the_call(self, connect):
        with RawServer(ok([])) as server:
            client = connect(server)
            for wrong in ({"per_page": 0}, {"from_": "soon"}, {"to": datetime(2026, 1, 1)}):  # noqa: DTZ001
                with pytest.raises(ConfigError):
                    client.iterate(**wrong)

    def test_pages_are_fetched_as_they_are_needed(self, connect):
        with RawServer(self.page(3, next="a"), self.page(2, next="b"), self.page(1)) as server:
            rows = connect(server).iterate()
            assert not server.requests
            next(rows)
            assert len(server.requests) == 1


@pytest.mark.parametrize("status", [100, 102, 103])
def test_what_comes_before_an_answer_is_no_answer(connect, status):
    early = f"HTTP/1.1 {status} Early\r\nLink: </x>\r\n\r\n".encode()
    with RawServer(early + early + ok({"id": 1}), ok({"id": 2})) as server:
        client = connect(server)
        assert [client.update(f"CUS_{n}", phone="").data["id"] for n in (1, 2)] == [1, 2]
        assert server.connections == 1


def test_the_answer_of_another_customer_is_none(connect):
    with RawServer(ok({"customer_code": "CUS_a"})) as server:
        client = connect(server)
        for key in ("CUS_a", "CUS_A", "a@example.com"):
            assert client.fetch(key).data["customer_code"] == "CUS_a"
        with pytest.raises(Unavailable, match="another customer's"):
            client.fetch("CUS_b")
    with RawServer(ok({"customer_code": "CUS_a", "email": "a@x.co"})) as server:
        assert connect(server).fetch("A@x.co").data["email"] == "a@x.co"
        with pytest.raises(Unavailable, match="another customer's"):
            connect(server).fetch("b@x.co")
    for nobody in ([], {}, {"message": "x"}, {"customer_code": None}):
        with RawServer(ok(nobody)) as server, pytest.raises(Unavailable, match="no customer in it"):
            connect(server).fetch("CUS_a")


class TestWhatIsSent:
    def test_only_what_is_given(self, connect):
        with RawServer(ok({"id": 1})) as server:
            client = connect(server)
            client.create("a@b.co")
            client.update("CUS_1", first_name=None, phone="", metadata={})
            client.set_risk_action("a@b.co", "deny")
            client.set_risk_action("a@b.co")
            client.validate("CUS_1", **IDENTITY)
        assert [body_of(request) for request in server.requests] == [
            {"email": "a@b.co"},
            {"first_name": None, "phone": "", "metadata": {}},
            {"customer": "a@b.co", "risk_action": "deny"},
            {"customer": "a@b.co"},
            {**IDENTITY, "type": "bank_account"},
        ]
        assert all("Content-Type: application/json" in request for request in server.requests)

    def test_texts_arrive_as_they_are(self, connect):
        name = "Ọláìtán 孙 \u202e\0'; drop"
        with RawServer(ok({"id": 1})) as server:
            connect(server).update("CUS_1", first_name=name)
        assert body_of(server.requests[0])["first_name"] == name

    def test_a_text_of_numpy_is_a_text(self, connect):
        with RawServer(ok({"id": 1})) as server:
            connect(server).update(
                np.str_("CUS_1"), first_name=np.str_("Ada"), metadata={"a": np.float64(1.5)}
            )
        assert body_of(server.requests[0]) == {"first_name": "Ada", "metadata": {"a": 1.5}}

    def test_parameters_of_a_list(self, connect):
        with RawServer(ok([])) as server:
            client = connect(server)
            page = client.list(
                page=3, per_page=50, from_="2026-01-01", to=datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)
            )
            client.list(use_cursor=True, next="a b&c=/+")
        target = server.requests[0].split(" ")[1]
        assert target == "/customer?perPage=50&page=3&from=2026-01-01&to=2026-01-02T03%3A04%3A05.679Z"
        assert page.params == {
            "perPage": "50",
            "page": "3",
            "from": "2026-01-01",
            "to": "2026-01-02T03:04:05.679Z",
        }
        assert (
            server.requests[1].split(" ")[1] == "/customer?perPage=100&use_cursor=true&next=a+b%26c%3D%2F%2B"
        )

    @pytest.mark.parametrize(
        ("call", "word"),
        [
            (lambda c: c.create(""), "email"),
            (lambda c: c.create(" "), "email"),
            (lambda c: c.create("ada"), "email"),
            (lambda c: c.create("ada@"), "email"),
            (lambda c: c.create("@b.co"), "email"),
            (lambda c: c.create("ada@localhost"), "email"),
            (lambda c: c.create("ada obi@b.co"), "email"),
            (lambda c: c.create("ada@b.co\n"), "email"),
            (lambda c: c.create(None), "email"),
            (lambda c: c.create("a@b.co", metadata='{"a":1}'), "dict"),
            (lambda c: c.create("a@b.co", metadata=[1]), "dict"),
            (lambda c: c.create("a@b.co", phone=8012345678), "text"),
            (lambda c: c.create("a@b.co", metadata={"a": {1, object()}}), "JSON"),
            (lambda c: c.update("CUS_1"), "no field"),
            (lambda c: c.update("CUS_1", metadata="{}"), "dict"),
            (lambda c: c.update("CUS_1", first_name=1.5), "text"),
            (lambda c: c.update("CUS_1", first_name="\ud800"), "JSON"),
            (lambda c: c.validate("CUS_1", **{**IDENTITY, "bvn": ""}), "bvn"),
            (lambda c: c.validate("CUS_1", **{**IDENTITY, "account_number": 123}), "account_number"),
            (lambda c: c.validate("CUS_1", **IDENTITY, type="passport"), "bank_account"),
            (lambda c: c.set_risk_action("CUS_1", "block"), "allow"),
            (lambda c: c.set_risk_action(" "), "blank"),
            *(
                (
                    lambda c, value=value: c.update("CUS_1", first_name="A", metadata={"a": [value]}),
                    "metadata",
                )
                for value in NO_JSON
            ),
            (lambda c: c.update("CUS_1", metadata={float("nan"): 1}), "metadata"),
            (lambda c: c.list(page=0), "page"),
            (lambda c: c.list(page="two"), "page"),
            (lambda c: c.list(page="9" * 5000), "page"),
            (lambda c: c.list(page=1.0), "page"),
            (lambda c: c.list(page=True), "page"),
            (lambda c: c.list(per_page=101), "per_page"),
            (lambda c: c.list(per_page="101"), "per_page"),
            (lambda c: c.list(from_=1e20), "seconds"),
            (lambda c: c.list(from_=1_767_225_600_000_000), "seconds"),
            (lambda c: c.list(to=float("nan")), "seconds"),
            (lambda c: c.list(from_=True), "not a date"),
            (lambda c: c.list(from_=b"2026-01-01"), "not a date"),
            (lambda c: c.list(from_=datetime(2026, 1, 1)), "time zone"),  # noqa: DTZ001
            (lambda c: c.list(to="2026-01-01T00:00:00"), "time zone"),
            (lambda c: c.list(to="yesterday"), "not a date"),
            (lambda c: c.list(next="a", page=2), "cursor"),
            (lambda c: c.list(next="a", previous="b"), "next"),
            *((lambda c, wrong=wrong: c.list(next=wrong), "next") for wrong in ("", " ", b"a", 5, "\ud800")),
            (lambda c: c.list(use_cursor="no"), "use_cursor"),
            (lambda c: c.list(to=datetime.max.replace(tzinfo=UTC)), "too far"),
            (lambda c: c.list(from_="0001-01-01T00:00:00+05:00"), "too far"),
        ],
    )
    def test_what_cannot_be_right_is_refused_before_sending(self, call, word, connect):
        with RawServer(ok([])) as server, pytest.raises(ConfigError, match=word) as caught:
            call(connect(server))
        assert not server.requests
        assert caught.value.exit_code == 2

    def test_a_closed_client_says_so(self, connect):
        with RawServer(ok([])) as server:
            with connect(server) as client:
                client.list()
            with pytest.raises(ConfigError, match="closed"):
                client.list()

    @pytest.mark.parametrize(
        "options",
        [
            *({"quota_share": 0}, {"quota_share": 1.1}, {"max_in_flight": 0}, {"quota": -1}),
            *(
                {"timeout": wrong}
                for wrong in (0, -1, None, (None, None), "5", (1, 2, 3), float("inf"), 1e10)
            ),
            *({"quota_share": "0.5"}, {"max_in_flight": "8"}, {"max_in_flight": 2.5}, {"retry": 3}),
            *({"read_only": None}, {"read_only": "no"}, {"on_wait": "print"}),
        ],
    )
    def test_options_out_of_range(self, options):
        with pytest.raises(ConfigError):
            PaystackClient(KEY, base_url="http://127.0.0.1:9", **options)


class TestRecords:
    @pytest.mark.parametrize(
        ("meta", "expected"),
        [
            (None, PageMeta()),
            ([], PageMeta()),
            ({}, PageMeta()),
            (
                {"total": 5, "skipped": 0, "perPage": "50", "page": 1, "pageCount": "1"},
                PageMeta(total=5, page=1, page_count=1, per_page=50),
            ),
            ({"next": "abc", "previous": "null", "perPage": 49}, PageMeta(next="abc", per_page=49)),
            ({"next": "null", "previous": ""}, PageMeta()),
            ({"total": "9" * 5000}, PageMeta()),
            ({"next": 7, "total": -1, "page": True, "perPage": "5.5", "pageCount": "٣"}, PageMeta()),
            ({"per_page": 10, "page_count": 2}, PageMeta(per_page=10, page_count=2)),
        ],
    )
    def test_meta_in_all_its_forms(self, meta, expected):
        assert PageMeta.parse(meta) == expected

    def test_a_page_keeps_its_bytes_alive(self, connect):
        rows = [{"id": number, "email": "x" * 100} for number in range(100)]
        with RawServer(reply(200, {"data": rows, "status": True, "meta": {}}), ok([])) as server:
            client = connect(server)
            page = client.list()
            for _ in range(50):
                client.list()
        assert msgspec.json.decode(page.raw) == rows == page.rows

    def test_numbers_beyond_64_bits_and_odd_types_survive(self, connect):
        row = {"id": 2**70, "x": 1e400 if False else 1.5, "metadata": "{}", "new": [None, {"a": True}]}
        with RawServer(ok([row])) as server:
            assert connect(server).list().rows == [row]

    def test_a_meta_that_nothing_can_hold_is_none(self, connect):
        meta = b'"status": true, "data": [], "meta": {"total": 5, "odd": 1e400}'
        refused = b'"status": false, "message": "No", "meta": {"nextStep": "x", "odd": 1e400}'
        with RawServer(reply(200, b"{%s}" % meta), reply(400, b"{%s}" % refused)) as server:
            client = connect(server)
            assert client.list().meta == PageMeta()
            with pytest.raises(Rejected, match="No"):
                client.list()

    @pytest.mark.parametrize(
        ("moment", "up", "text"),
        [
            ("2026-01-31", False, "2026-01-31"),
            ("2026-01-31T08:00:00Z", False, "2026-01-31T08:00:00.000Z"),
            ("2026-01-31T08:00:00+01:00", False, "2026-01-31T07:00:00.000Z"),
            (datetime(2026, 1, 31, 8, 0, 0, 123_999, UTC), False, "2026-01-31T08:00:00.123Z"),
            (datetime(2026, 1, 31, 8, 0, 0, 123_001, UTC), True, "2026-01-31T08:00:00.124Z"),
            (datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC), True, "2027-01-01T00:00:00.000Z"),
            (datetime(2026, 1, 31, 8, 0, 0, 123_000, UTC), True, "2026-01-31T08:00:00.123Z"),
            (datetime(26, 1, 1, tzinfo=UTC), False, "0026-01-01T00:00:00.000Z"),
            (date(2026, 1, 31), False, "2026-01-31"),
            (date(2026, 1, 31), True, "2026-01-31"),
            ("2026-W05-6", False, "2026-01-31"),
            (" 2026-01-31 ", False, "2026-01-31"),
            (1_769_846_400, False, "2026-01-31T08:00:00.000Z"),
            (1_769_846_400.1234, True, "2026-01-31T08:00:00.124Z"),
            (
                pendulum.datetime(2026, 1, 31, 8, microsecond=1, tz="Africa/Lagos"),
                True,
                "2026-01-31T07:00:00.001Z",
            ),
            (pendulum.date(2026, 1, 31), False, "2026-01-31"),
        ],
    )
    def test_bounds(self, moment, up, text):
        assert bound(moment, "from", up=up) == text

    def test_the_hour_that_comes_twice_is_two_bounds(self):
        first = datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        assert bound(first, "from") == "2025-10-26T00:30:00.000Z"
        assert bound(first.replace(fold=1), "from") == "2025-10-26T01:30:00.000Z"

    def test_times(self):
        expected = datetime(2016, 3, 29, 20, 3, 9, 584_000, UTC)
        assert parse_time("2016-03-29T20:03:09.584Z") == expected
        assert parse_time("2016-03-29T21:03:09.584+01:00") == expected
        assert parse_time("2016-03-29T20:03:09.584").tzinfo is UTC
        with pytest.raises(ValueError):
            parse_time("soon")

    def test_enumerations_are_texts(self):
        assert [*RiskAction] == ["allow", "deny", "default"]
        assert IdentificationType.BANK_ACCOUNT == "bank_account"


@pytest.mark.parametrize("module", [arguments, client, errors, keys, models, wire])
def test_every_public_name_says_what_it_is(module):
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        assert inspect.getdoc(value), name
        if inspect.isclass(value):
            for member, inside in vars(value).items():
                if not member.startswith("_") and (
                    inspect.isfunction(inside) or isinstance(inside, property)
                ):
                    assert inspect.getdoc(inside), f"{name}.{member}"


def test_a_wait_for_the_quota_can_be_interrupted(sandbox):
    server = sandbox(limit=1)
    waiting = threading.Event()

    def stop(*_):
        waiting.set()
        raise KeyboardInterrupt

    with PaystackClient(server.secret_key, base_url=server.url, on_wait=stop) as client:
        client.list()
        with pytest.raises(KeyboardInterrupt):
            client.list()
    assert waiting.is_set()
