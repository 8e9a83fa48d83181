"""The registry's side of the wire, played by an adapter: tokens, redirects, retries, damage."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from urllib3.exceptions import NewConnectionError
from urllib3.response import HTTPResponse

from pinnace import reference
from pinnace.errors import RegistryError
from pinnace.registry import RegistryClient, Transport
from pinnace.registry.authorization import parse_challenge
from pinnace.registry.connections import is_loopback, new_session
from pinnace.registry_rules import Registry

BODY = bytes(range(256)) * 4096
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()
BEARER = 'Bearer realm="https://auth.example/token?x=1",service="s",scope="repository:a/b:pull"'


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    breaks_after: int | None = None


class Broken(io.BytesIO):
    """A body whose connection breaks."""

    def read(self, count: int | None = -1) -> bytes:
        piece = super().read(count)
        if not piece:
            raise ConnectionResetError("reset")
        return piece

    read1 = read


class Wire(requests.adapters.BaseAdapter):
    """Answers requests from a function and keeps them."""

    def __init__(self, answer: Callable[[requests.PreparedRequest], Answer | Exception]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[requests.PreparedRequest] = []
        self.proxies: dict[str, str] = {}

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        self.seen.append(request)
        self.proxies = options["proxies"]
        answer = self.answer(request)
        if isinstance(answer, Exception):
            raise answer
        whole = answer.breaks_after is None
        body: io.BytesIO = io.BytesIO(answer.body) if whole else Broken(answer.body[: answer.breaks_after])
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.headers)
        response.url, response.request = str(request.url), request
        response.raw = HTTPResponse(body=body, preload_content=False, headers=answer.headers)
        return response

    def close(self) -> None:
        pass


class Play:
    """A client whose registry is ``answer``; ``slept`` holds the waits between attempts."""

    def __init__(
        self, answer: Callable[[requests.PreparedRequest], Answer | Exception], host: str = "h.io"
    ) -> None:
        self.wire = Wire(answer)
        self.slept: list[float] = []
        session = new_session()
        session.mount("https://", self.wire)
        session.mount("http://", self.wire)
        self.client = RegistryClient(Transport(host, session=session, sleep=self.slept.append))

    def blob(self) -> bytes:
        return b"".join(self.client.blob("a/b", DIGEST, len(BODY)))

    def refused(self, action: Callable[[], object] | None = None) -> RegistryError:
        with pytest.raises(RegistryError) as caught:
            (action or self.blob)()
        return caught.value


def sequence(*answers: Answer | Exception) -> Callable[[requests.PreparedRequest], Answer | Exception]:
    rest = list(answers)
    return lambda request: rest.pop(0) if len(rest) > 1 else rest[0]


def test_a_blob_arrives_whole() -> None:
    assert Play(lambda request: Answer(body=BODY)).blob() == BODY


def test_an_anonymous_token_is_fetched_and_sent() -> None:
    def answer(request: requests.PreparedRequest) -> Answer:
        if "auth.example" in str(request.url):
            assert "Authorization" not in request.headers
            assert request.url == "https://auth.example/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=s"
            return Answer(body=b'{"token": "T"}')
        if request.headers.get("Authorization") == "Bearer T":
            return Answer(body=BODY)
        return Answer(401, headers={"WWW-Authenticate": BEARER})

    assert Play(answer).blob() == BODY


def test_an_expired_token_is_fetched_anew() -> None:
    tokens = iter("12")
    valid = {"1": 1, "2": 9}

    def answer(request: requests.PreparedRequest) -> Answer:
        if "auth.example" in str(request.url):
            return Answer(body=json.dumps({"access_token": next(tokens)}).encode())
        token = request.headers.get("Authorization", "")[-1:]
        if valid.get(token, 0) > 0:
            valid[token] -= 1
            return Answer(body=BODY)
        return Answer(401, headers={"WWW-Authenticate": BEARER})

    play = Play(answer)
    assert (play.blob(), play.blob()) == (BODY, BODY)


@pytest.mark.parametrize("challenge", ['Basic realm="x"', "Negotiate", BEARER])
def test_what_needs_a_login_says_401(challenge: str) -> None:
    error = Play(lambda request: Answer(401, headers={"WWW-Authenticate": challenge})).refused()
    assert error.identifier == "registry-unauthorized" and "401" in str(error) and "a/b" in str(error)


def test_a_token_service_without_https_is_refused() -> None:
    challenge = BEARER.replace("https", "http")
    play = Play(lambda request: Answer(401, headers={"WWW-Authenticate": challenge}))
    assert "without https" in str(play.refused()) and len(play.wire.seen) == 1


def test_a_token_with_a_line_break_is_refused() -> None:
    def answer(request: requests.PreparedRequest) -> Answer:
        if "auth.example" in str(request.url):
            return Answer(body=json.dumps({"token": "x\r\nHost: y"}).encode())
        return Answer(401, headers={"WWW-Authenticate": BEARER})

    assert "no token" in str(Play(answer).refused())


@pytest.mark.parametrize(("target", "kept"), [("https://cdn.example/x", False), ("/elsewhere", True)])
def test_a_redirect_takes_the_token_along_on_the_same_host_only(target: str, kept: bool) -> None:
    def answer(request: requests.PreparedRequest) -> Answer:
        url = str(request.url)
        if "auth.example" in url:
            return Answer(body=b'{"token": "T"}')
        if url.endswith(target):
            assert ("Authorization" in request.headers) is kept
            return Answer(body=BODY)
        if "Authorization" not in request.headers:
            return Answer(401, headers={"WWW-Authenticate": BEARER})
        return Answer(307, headers={"Location": target})

    assert Play(answer).blob() == BODY


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[]", b"1", b'{"token": 1}', b"\xff", b""])
def test_a_token_answer_that_is_none_is_one_clear_error(body: bytes) -> None:
    def answer(request: requests.PreparedRequest) -> Answer:
        if "auth.example" in str(request.url):
            return Answer(body=body)
        return Answer(401, headers={"WWW-Authenticate": BEARER})

    assert "no token" in str(Play(answer).refused())


def test_a_token_answer_that_breaks_off_is_one_clear_error() -> None:
    def answer(request: requests.PreparedRequest) -> Answer:
        if "auth.example" in str(request.url):
            return Answer(body=b"", breaks_after=0)
        return Answer(401, headers={"WWW-Authenticate": BEARER})

    assert "no token: the transfer broke off" in str(Play(answer).refused())


@pytest.mark.parametrize("realm", ["https://[x/", "https://x:99999/", "/token", "file:///etc/passwd"])
@pytest.mark.parametrize("host", ["h.io", "127.0.0.1:5000"])
def test_a_token_service_that_cannot_be_asked_is_named(realm: str, host: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    play = Play(lambda request: Answer(401, headers=challenge), host)
    assert realm in str(play.refused()) and len(play.wire.seen) == 1


@pytest.mark.parametrize("body", [b'{"tags": 5}', b'{"tags": {"a": 1}}', b"[" * 100_000])
def test_a_list_of_tags_that_is_none_names_the_image(body: bytes) -> None:
    play = Play(lambda request: Answer(200 if "tags" in str(request.url) else 404, body))
    error = play.refused(lambda: play.client.manifest(reference.parse("h.io/a/b:1")))
    assert error.identifier == "unknown-image"


def test_a_wait_that_is_no_number_is_passed_over() -> None:
    play = Play(sequence(Answer(429, headers={"Retry-After": "\xb2"}), Answer(body=BODY)))
    assert play.blob() == BODY


@pytest.mark.parametrize(
    ("host", "through"), [("127.0.0.1:5000", False), ("localhost", False), ("h.io", True)]
)
def test_what_is_on_this_machine_is_not_asked_through_a_proxy(
    host: str, through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    play = Play(lambda request: Answer(body=BODY), host)
    play.blob()
    assert bool(play.wire.proxies) is through


@pytest.mark.parametrize(
    "target",
    ["http://h.io/x", "ftp://h.io/x", "file:///etc/passwd", "https://[x/", "https://x:99999/"],
)
def test_a_redirect_to_less_than_https_is_refused(target: str) -> None:
    play = Play(lambda request: Answer(302, headers={"Location": target}))
    assert play.refused().identifier == "registry-redirect" and len(play.wire.seen) == 1


def test_redirects_without_end_are_refused() -> None:
    assert (
        Play(lambda request: Answer(302, headers={"Location": "/again"})).refused().identifier
        == "registry-redirect"
    )


def test_passing_failures_are_tried_again() -> None:
    play = Play(
        sequence(
            Answer(503),
            requests.ConnectionError("reset"),
            Answer(429, headers={"Retry-After": "7"}),
            Answer(body=BODY),
        )
    )
    assert play.blob() == BODY and len(play.slept) == 3 and play.slept[2] >= 7


def test_a_failure_that_stays_is_told() -> None:
    play = Play(lambda request: Answer(503))
    assert "503" in str(play.refused()) and len(play.wire.seen) == 6


def test_a_refused_connection_is_not_tried_again() -> None:
    reason = NewConnectionError(None, "[Errno 111] Connection refused")  # type: ignore[arg-type]
    reason.reason = None  # type: ignore[attr-defined]
    wrapped = requests.ConnectionError(type("Max", (Exception,), {"reason": reason})())
    play = Play(lambda request: wrapped)
    assert play.refused().identifier == "registry-unreachable" and len(play.wire.seen) == 1


def test_a_broken_transfer_goes_on_where_it_broke() -> None:
    def answer(request: requests.PreparedRequest) -> Answer:
        wanted = request.headers.get("Range")
        if wanted is None:
            return Answer(body=BODY, breaks_after=300_000)
        start = int(str(wanted)[len("bytes=") : -1])
        said = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        return Answer(206, BODY[start:], headers={"Content-Range": said})

    play = Play(answer)
    assert play.blob() == BODY
    assert [request.headers.get("Range") for request in play.wire.seen] == [None, "bytes=300000-"]


def test_a_registry_without_ranges_sends_the_beginning_again() -> None:
    assert Play(sequence(Answer(body=BODY, breaks_after=300_000), Answer(body=BODY))).blob() == BODY


def test_a_blob_that_stays_short_is_truncated() -> None:
    play = Play(sequence(Answer(body=BODY[:1000]), Answer(416)))
    assert play.refused().identifier == "truncated-blob"


def test_a_blob_with_another_content_is_damaged() -> None:
    assert Play(lambda request: Answer(body=BODY[::-1])).refused().identifier == "digest-mismatch"


def test_a_blob_that_is_too_long_is_damaged() -> None:
    assert "longer than" in str(Play(lambda request: Answer(body=BODY + b"x")).refused())


def test_a_forbidden_blob_says_403() -> None:
    assert Play(lambda request: Answer(403)).refused().identifier == "registry-forbidden"


def test_all_manifest_types_are_accepted() -> None:
    play = Play(lambda request: Answer(body=b"{}"))
    play.client.manifest(reference.parse("h.io/a/b:1"))
    assert str(play.wire.seen[0].headers["Accept"]).count("application/vnd.") == 4


def test_a_manifest_that_is_not_what_was_asked_for_is_refused() -> None:
    play = Play(lambda request: Answer(body=b"{}"))
    error = play.refused(lambda: play.client.manifest(reference.parse(f"h.io/a/b@{DIGEST}")))
    assert error.identifier == "digest-mismatch"


def test_a_huge_manifest_is_refused() -> None:
    play = Play(lambda request: Answer(body=bytes((8 << 20) + 1)))
    assert "larger than" in str(play.refused(lambda: play.client.manifest(reference.parse("h.io/a/b"))))


def test_credentials_of_netrc_are_not_sent(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine h.io login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    play = Play(lambda request: Answer(body=BODY))
    play.blob()
    assert "Authorization" not in play.wire.seen[0].headers


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("[::1]:5", True),
        ("h.io", False),
        ("127.0.0.1.h.io", False),
    ],
)
def test_plain_http_is_for_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert Transport(host).base == f"{'http' if loopback else 'https'}://{host}"


def test_plain_http_can_be_configured() -> None:
    assert Transport("h.io", rules=Registry(plain_http=True)).base == "http://h.io"


def test_a_challenge_may_hold_quoted_commas() -> None:
    challenge = parse_challenge('Bearer realm="https://x/y",scope="a:b:pull,push",error=e')
    assert challenge.parameters == {"realm": "https://x/y", "scope": "a:b:pull,push", "error": "e"}
