"""When requests are made again, and what ranges mean: no network, no clock."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pinnace.registry import ranges, retry
from pinnace.registry.connections import Certificates, certificates
from pinnace.registry.pace import Crawling, Paced
from pinnace.registry_rules import KEYS, Registry

POLICY = retry.Policy(retries=3, base=1.0, cap=5.0, longest=60.0)


def test_waits_grow_up_to_a_limit_and_are_anything_below() -> None:
    assert [POLICY.delay(n, None, 1.0) for n in (1, 2, 3, 4, 9)] == [1, 2, 4, 5, 5]
    assert POLICY.delay(9, None, 0.0) == 0
    assert POLICY.delay(10_000, None, 1.0) == 5


def test_a_wait_that_was_asked_for_is_a_minimum() -> None:
    assert POLICY.delay(1, 7.0, 0.5) == 7.5
    assert POLICY.bears(60.0) and POLICY.bears(None) and not POLICY.bears(61.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("\xb2", None),
        ("-1", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:10 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry.retry_after(value, 40.0) == seconds


def test_attempts_are_bounded_and_progress_starts_over() -> None:
    attempts = retry.Attempts(POLICY)
    assert [attempts.failed(0) for _ in range(4)] == [True, True, True, False]
    assert attempts.failed(retry.PROGRESS)
    assert attempts.delay(1.0) == 0
    assert [attempts.failed(0) for _ in range(3)] == [True, True, False]


def test_a_few_bytes_at_a_time_do_not_go_on_for_ever() -> None:
    attempts = retry.Attempts(POLICY)
    assert [attempts.failed(1) for _ in range(31)] == [True] * 30 + [False]


def test_limits_are_put_into_words() -> None:
    assert retry.rate_limit({"RateLimit-Limit": "100;w=21600"}) == "the limit is 100 in 6 h"
    assert retry.rate_limit({"RateLimit-Limit": "5"}) == "the limit is 5"
    assert retry.rate_limit({"RateLimit-Limit": "x;w=y"}) is None
    assert retry.is_used_up({"RateLimit-Remaining": "0;w=21600"})
    assert not retry.is_used_up({"RateLimit-Remaining": "0", "Retry-After": "1"})


def test_a_part_is_asked_for_of_the_same_version() -> None:
    assert ranges.request_headers(0, None, '"x"') == {}
    assert ranges.request_headers(5, None, None) == {"Range": "bytes=5-"}
    assert ranges.request_headers(0, 10, '"x"') == {"Range": "bytes=0-9", "If-Range": '"x"'}
    assert ranges.request_headers(5, 10, 'W/"x"') == {"Range": "bytes=5-9"}


@pytest.mark.parametrize(
    ("status", "said", "first"),
    [
        (200, "", 0),
        (206, "bytes 5-9/10", 5),
        (206, "bytes 5-9/*", 5),
        (206, "bytes 5-9/11", None),
        (206, "bytes 9-5/10", None),
        (206, "lines 5-9/10", None),
        (206, "", None),
    ],
)
def test_an_answer_tells_where_it_begins(status: int, said: str, first: int | None) -> None:
    assert ranges.first_byte(status, {"Content-Range": said}, 10) == first


class Drip(io.RawIOBase):
    """A socket that gives a byte each time."""

    def readinto(self, buffer: Any) -> int:
        buffer[0] = 0
        return 1


def test_a_peer_that_crawls_is_given_up_and_only_waiting_counts() -> None:
    ticks = iter(range(100))
    paced = Paced(Drip(), 3.0, lambda: float(next(ticks)))
    with pytest.raises(Crawling, match="3 bytes in 3 s"):
        while paced.read(1):
            next(ticks)  # whoever takes the bytes is slow as well


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mirrors", "https://x"),
        ("mirrors", ["ftp://x"]),
        ("mirrors", ["https://user@x"]),
        ("mirrors", ["https://x/a?b"]),
        ("http_redirects", ["https://x"]),
        ("http_redirects", 1),
        ("plain_http", "true"),
        ("ca", "relative"),
        ("client_key", 5),
    ],
)
def test_rules_that_are_none_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        KEYS[name](value)


def test_mirrors_have_a_scheme_port_and_path_or_none() -> None:
    given = ["https://cache.example/prefix/", "http://127.0.0.1:5000", "cache.example:5000/a/b", "[::1]:5"]
    assert KEYS["mirrors"](given) == (given[0][:-1], *given[1:])


def test_http_storage_may_be_named_with_its_port_or_without() -> None:
    rules = Registry(http_redirects=("a:9000", "b"))
    assert [rules.allows_http_redirect(host) for host in ("a:9000", "a", "a:1", "b", "b:9000", "c")] == [
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_configured_certificates_win_over_those_of_docker(tmp_path: Path) -> None:

    place = tmp_path / "h.io:5000"
    place.mkdir()
    for name in ("a.crt", "b.crt", "client.cert", "client.key", "other"):
        (place / name).touch()
    found = certificates("h.io:5000", Registry(), (str(tmp_path),))
    assert found == Certificates(
        (f"{place}/a.crt", f"{place}/b.crt"), ((f"{place}/client.cert", f"{place}/client.key"),)
    )
    assert certificates("h.io:5000", Registry(ca="/x"), (str(tmp_path),)) == Certificates(("/x",))
    assert not certificates("h.io", Registry(), (str(tmp_path),))
