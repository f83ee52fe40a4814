"""Passwords cannot be guessed fast, and nobody who knows theirs is kept out by somebody who tries."""

import threading
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from files_app.access import wrong_tokens
from files_app.access.pools import HOUR, Level, Pool, pause_after
from files_app.access.throttle import ADDRESS, MOST, POOLS, TARGET, TooManyTries, Who, claim, prune
from files_app.models import AuditEvent, Throttle
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import TOKEN, locked_database, wait_for_locks
from tests.files_app.site import HOST, Answer, fetch

pytestmark = pytest.mark.usefixtures("database")

NOW = 1_800_000_000.0
SCHOOL, HOME = "192.0.2.7", "198.51.100.9"


def tries(who: Who, now: float, is_right: bool = False) -> bool:
    """Whether the password was looked at."""
    try:
        attempt = claim(who, now)
    except TooManyTries:
        return False
    if is_right:
        attempt.succeeded(now)
    return True


class TestPools:
    @pytest.mark.parametrize(
        ("tries", "seconds", "left", "wait"),
        [
            (5, 0, 5, 0),
            (0, 0, 0, 360),
            (0, 360, 1, 0),
            (0, HOUR * 9, 5, 0),
            (0.5, 0, 0.5, 180),
            (2, -50, 2, 0),
        ],
    )
    def test_a_pool_fills_with_time(self, tries: float, seconds: float, left: float, wait: float) -> None:
        level, pool = Level(tries, NOW), Pool(5, 10)
        level.fill(pool, NOW + seconds)
        assert level.tries == pytest.approx(left)
        assert level.wait(pool) == pytest.approx(wait)

    def test_pauses_grow_up_to_a_quarter_of_an_hour(self) -> None:
        assert [pause_after(fails) for fails in (0, 1, 2, 3, 4, 5, 12, 10_000)] == [
            0,
            0,
            1,
            2,
            4,
            8,
            900,
            900,
        ]

    def test_the_pools_of_one_address_and_one_password_give_the_most_that_is_promised(self) -> None:
        for pools in POOLS.values():
            assert sum(pool.burst + pool.an_hour for pool in pools) == MOST == 50

    @given(st.lists(st.floats(0, 600), min_size=1, max_size=300))
    def test_no_hour_has_more_tries_than_burst_and_rate(self, gaps: list[float]) -> None:
        pool, level, now, taken = Pool(10, 20), Level(10, 0.0), 0.0, list[float]()
        for gap in gaps:
            now += gap
            level.fill(pool, now)
            if not level.wait(pool):
                level.tries -= 1
                taken.append(now)
        for at in taken:
            assert sum(at <= other < at + HOUR for other in taken) <= pool.burst + pool.an_hour + 1e-6


class TestGuessing:
    @pytest.mark.parametrize("kind", ["account", "link"])
    @pytest.mark.parametrize("cookies", ["kept", "thrown away"])
    def test_a_hundred_tries_a_second_from_one_address_are_fifty_in_an_hour(
        self, kind: str, cookies: str
    ) -> None:
        real = 0
        for number in range(0, 3600, 30):  # those in between change nothing
            for more in range(2):
                visitor = "the same" if cookies == "kept" else f"{number} {more}"
                real += tries(Who(kind, "ann", SCHOOL, visitor), NOW + number)
        assert 0 < real <= MOST

    def test_from_many_addresses_an_account_has_two_hundred_in_an_hour(self) -> None:
        real = sum(
            tries(Who("account", "ann", f"192.0.2.{number % 250}", str(number)), NOW + number)
            for number in range(0, 3600, 12)
        )
        assert 100 <= real <= TARGET.burst + TARGET.an_hour

    def test_one_address_cannot_try_one_password_at_all_accounts(self) -> None:
        real = sum(tries(Who("account", f"user {n}", SCHOOL, str(n)), NOW + n) for n in range(300))
        assert real <= ADDRESS.burst + ADDRESS.an_hour

    def test_an_address_of_ipv6_is_its_network(self) -> None:
        real = sum(tries(Who("account", "ann", f"2001:db8::{n:x}", str(n)), NOW) for n in range(100))
        assert real == POOLS["account"].newcomers.burst

    def test_a_burst_of_threads_shares_no_try(self) -> None:
        allowed, barrier = [], threading.Barrier(8)

        def guess(number: int) -> None:
            try:
                barrier.wait(10)
                for more in range(4):
                    if tries(Who("link", "7", SCHOOL, f"{number} {more}"), NOW):
                        allowed.append(number)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=guess, args=(number,)) for number in range(8)]
        Throttle.objects.all().delete()
        pools = POOLS["link"].newcomers
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(allowed) == min(32, pools.burst)

    def test_a_flood_is_one_row_of_the_audit(self) -> None:
        for number in range(50):
            tries(Who("account", "ann", SCHOOL, str(number)), NOW)
        rows = AuditEvent.objects.filter(action="throttled")
        assert [row.about for row in rows] == ["account ann"]


class TestOthers:
    def test_of_a_class_that_tries_wrong_ones_the_one_with_the_right_one_gets_in(self) -> None:
        """29 people with 20 wrong passwords each within a minute, all behind one address; then the 30th."""
        for second in range(60):
            for person in range(29):
                if second % 3 == 0:
                    tries(Who("link", "7", SCHOOL, f"person {person}"), NOW + second)
        assert tries(Who("link", "7", SCHOOL, "person 30"), NOW + 60, is_right=True)

    def test_a_class_whose_first_tries_are_wrong_gets_in(self) -> None:
        for person in range(30):
            assert tries(Who("link", "7", SCHOOL, f"person {person}"), NOW + person)
        for person in range(30):
            who = Who("link", "7", SCHOOL, f"person {person}")
            assert tries(who, NOW + 60 + person, is_right=True), person

    def test_an_attacker_elsewhere_keeps_nobody_from_their_known_address(self) -> None:
        assert tries(Who("account", "ann", HOME, "of ann"), NOW, is_right=True)
        for number in range(200):
            tries(Who("account", "ann", f"203.0.113.{number % 250}", str(number)), NOW + 10)
        assert not tries(Who("account", "ann", "192.0.2.99", "new"), NOW + 11)
        assert tries(Who("account", "ann", HOME, "another browser"), NOW + 11)

    def test_nor_one_at_the_same_address_from_their_own_browser(self) -> None:
        for name in ("ann", "ben"):
            assert tries(Who("account", name, SCHOOL, f"of {name}"), NOW, is_right=True)
        for number in range(100):
            tries(Who("account", "else", SCHOOL, str(number)), NOW + 10)
        assert tries(Who("account", "ben", SCHOOL, "of ben"), NOW + 11, is_right=True)

    def test_a_success_gives_back_what_it_took(self) -> None:
        for round in range(30):
            assert tries(Who("account", "ann", SCHOOL, "of ann"), NOW + round, is_right=True)

    def test_a_success_long_ago_is_forgotten(self) -> None:
        tries(Who("account", "ann", HOME, "of ann"), NOW, is_right=True)
        later = NOW + 40 * 86_400
        prune(later)
        assert not Throttle.objects.exists()


class TestDoors:
    @pytest.fixture(autouse=True)
    def _ann(self, database: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("files_app.access.throttle.time", SimpleNamespace(time=lambda: NOW))
        settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
        User.objects.create_superuser("ann", password="correct horse")

    def log_in(self, password: str, url: str = "/login/", visitor: str = "") -> Answer:
        headers = {
            "origin": f"http://{HOST}",
            "cookie": f"cfs_csrf={TOKEN}; {visitor}",
            "x-csrftoken": TOKEN,
            "accept": "text/html",
            "content-type": "application/x-www-form-urlencoded",
        }
        form = urlencode({"username": "ann", "password": password}).encode()
        return fetch("POST", url, headers=headers, body=form, client=(SCHOOL, 5000))

    @pytest.mark.parametrize("url", ["/login/", "/admin/login/"])
    def test_after_some_wrong_ones_even_the_right_one_must_wait(self, url: str) -> None:
        answers = [self.log_in("wrong", url) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        slowed = self.log_in("correct horse", url)
        assert slowed.status == 429
        assert 1 <= int(slowed.headers["retry-after"]) <= 3
        assert "Too many wrong tries. Try again in" in slowed.text
        assert AuditEvent.objects.filter(action="login-failed").count() == 2

    def test_the_right_one_gets_in_and_clears_what_was(self) -> None:
        assert self.log_in("wrong").status == 200
        assert self.log_in("correct horse").status == 302
        assert self.log_in("wrong").status == 200

    def test_unknown_names_are_slowed_like_known_ones(self) -> None:
        User.objects.all().delete()
        assert [self.log_in("wrong").status for _ in range(3)] == [200, 200, 429]

    def test_without_a_database_there_is_no_free_try(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wait_for_locks(monkeypatch, 0.05)
        with locked_database():
            assert self.log_in("correct horse").status == 503

    def test_the_form_knows_its_visitor_again(self) -> None:
        page = fetch("GET", "/login/", client=(SCHOOL, 5000))
        cookies = [value for name, value in page.all_headers if name == "set-cookie"]
        assert any(value.startswith("cfs_visitor=") and "HttpOnly" in value for value in cookies)

    def test_who_may_not_use_the_admin_is_told_so_and_not_sent_round(self) -> None:
        User.objects.create_user("ben", password="pear")
        headers = {"origin": f"http://{HOST}", "cookie": f"cfs_csrf={TOKEN}", "x-csrftoken": TOKEN}
        headers["content-type"] = "application/x-www-form-urlencoded"
        form = urlencode({"username": "ben", "password": "pear", "next": "/admin/"}).encode()
        answer = fetch("POST", "/admin/login/", headers=headers, body=form, client=(SCHOOL, 5000))
        assert answer.status == 302
        session = next(v.partition(";")[0] for n, v in answer.all_headers if v.startswith("cfs_session"))
        refused = fetch("GET", "/admin/login/?next=/admin/", headers={"cookie": session}, client=(SCHOOL, 1))
        assert (refused.status, refused.text) == (403, "Your account may not use the admin.\n")


class TestTokens:
    def test_wrong_ones_from_one_address_are_fifty_in_an_hour(self) -> None:
        real = 0
        for second in range(3600):
            try:
                wrong_tokens.count(SCHOOL, NOW + second)
                real += 1
            except ErrorReply:
                continue
        assert 40 <= real <= 50

    def test_another_address_is_not_concerned(self) -> None:
        for _ in range(int(wrong_tokens.POOL.burst)):
            wrong_tokens.count(SCHOOL, NOW)
        wrong_tokens.count(HOME, NOW)

    def test_no_more_addresses_are_remembered_than_there_is_room_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wrong_tokens, "MAX_ADDRESSES", 10)
        for number in range(100):
            wrong_tokens.count(f"192.0.2.{number}", NOW)
            assert len(wrong_tokens._levels) <= 11
