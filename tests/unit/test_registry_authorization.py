"""What is shown to registries and token services, when it is renewed, and what refusals say."""

from __future__ import annotations

import base64
import io
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pinnace.errors import RegistryError
from pinnace.registry.authorization import Authorizer
from pinnace.secret import Credential, Secret

CANARY = "c4n4ry-s3cr3t"
BEARER = 'Bearer realm="https://auth.h.io/token",service="s",scope="repository:a/b:pull"'
BASIC = 'Basic realm="x"'


@dataclass
class Answer:
    """As much of a response as is looked at."""

    status_code: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.raw = io.BytesIO(json.dumps(self.body).encode())

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class Request:
    method: str
    url: str
    authorization: str
    form: dict[str, str]


class Site:
    """A registry and its token service, a keyring and a clock; an Authorizer that uses them."""

    host = "h.io"
    user: str | None = None

    def __init__(self, credential: Credential | None = None, *, base: str = "https://h.io") -> None:
        self.base = base
        self.credential = credential
        self.seen: list[Request] = []
        self.realms: list[str] = []
        self.now = 0.0
        self.answer: Callable[[Request], Answer] = lambda request: Answer(body={"token": "T"})
        transport: Any = self
        self.authorizer = Authorizer(transport, self, lambda: self.now)

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        self.seen.append(Request(method, url, (headers or {}).get("Authorization", ""), dict(form or {})))
        return self.answer(self.seen[-1])

    def find(self, repository: str, realm: str) -> Credential | None:
        self.realms.append(realm)
        return self.credential

    def places(self) -> list[str]:
        return ["~/one", "~/two"]

    def header(self, challenge: str = BEARER) -> str | None:
        self.authorizer.answer("a/b", challenge)
        return self.sent()

    def sent(self) -> str | None:
        header = self.authorizer.header("a/b")
        return header.reveal() if header else None

    def refused(self, challenge: str = BEARER) -> RegistryError:
        with pytest.raises(RegistryError) as caught:
            self.header(challenge)
        shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
        assert CANARY not in shown + json.dumps(caught.value.as_dict())
        assert encoded() not in shown
        return caught.value


def encoded(username: str = "ada", password: str = CANARY) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def ada() -> Credential:
    return Credential("~/.docker/config.json", "ada", Secret(CANARY))


def test_basic_is_answered_with_user_and_password() -> None:
    assert Site(ada()).header(BASIC) == f"Basic {encoded()}"


def test_the_token_service_gets_user_and_password() -> None:
    site = Site(ada())
    assert site.header() == "Bearer T"
    (request,) = site.seen
    assert request.authorization == f"Basic {encoded()}" and request.method == "GET"
    assert parse_qs(urlsplit(request.url).query) == {"scope": ["repository:a/b:pull"], "service": ["s"]}
    assert site.realms == ["auth.h.io"]


def test_without_a_credential_the_token_is_asked_for_anonymously() -> None:
    site = Site()
    assert site.header() == "Bearer T"
    assert site.seen[0].authorization == ""


def test_a_registry_token_is_sent_as_it_is() -> None:
    site = Site(Credential("f", registry_token=Secret(CANARY)))
    assert site.header() == f"Bearer {CANARY}"
    assert site.seen == []


def test_an_identity_token_is_exchanged_and_kept_when_it_changes() -> None:
    site = Site(Credential("f", identity_token=Secret(CANARY)))
    site.answer = lambda request: Answer(
        body={"access_token": "T", "refresh_token": "next", "expires_in": 60}
    )
    assert site.header() == "Bearer T"
    site.now = 100
    assert site.sent() == "Bearer T"
    assert [request.method for request in site.seen] == ["POST", "POST"]
    assert [request.form["refresh_token"] for request in site.seen] == [CANARY, "next"]
    first = {"grant_type": "refresh_token", "service": "s", "scope": "repository:a/b:pull"}
    assert first.items() <= site.seen[0].form.items()
    assert CANARY not in site.seen[0].url


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_without_oauth_gets_the_identity_token_as_password(status: int) -> None:
    site = Site(Credential("f", identity_token=Secret(CANARY)))
    site.answer = lambda request: Answer(status) if request.method == "POST" else Answer(body={"token": "T"})
    assert site.header() == "Bearer T"
    assert site.seen[1].authorization == f"Basic {encoded('<token>')}"


def test_a_token_is_renewed_before_it_expires() -> None:
    site = Site(ada())
    site.answer = lambda request: Answer(body={"token": str(len(site.seen)), "expires_in": 300})
    assert site.header() == "Bearer 1"
    site.now = 269
    assert site.sent() == "Bearer 1"
    site.now = 271
    assert site.sent() == "Bearer 2"
    assert site.realms == ["auth.h.io"]


@pytest.mark.parametrize("said", [None, -1, "300", True, 1e99, []])
def test_a_token_of_unknown_life_lives_a_minute(said: object) -> None:
    site = Site()
    site.answer = lambda request: Answer(body={"token": str(len(site.seen)), "expires_in": said})
    site.header()
    site.now = 53
    assert site.sent() == "Bearer 1"
    site.now = 55
    assert site.sent() == "Bearer 2"


def test_the_age_of_a_token_is_told_by_its_services_own_clock() -> None:
    site = Site()
    body = {"token": "T", "expires_in": 300, "issued_at": "2001-01-01T00:00:00Z"}
    date = {"Date": "Mon, 01 Jan 2001 00:04:00 GMT"}
    site.answer = lambda request: Answer(body={**body, "token": str(len(site.seen))}, headers=date)
    site.header()
    site.now = 50
    assert site.sent() == "Bearer 1"
    site.now = 55
    assert site.sent() == "Bearer 2"


def test_a_refused_token_is_replaced_once_for_all_threads() -> None:
    site = Site()
    site.answer = lambda request: Answer(body={"token": str(len(site.seen))})
    site.header()
    old = site.authorizer.header("a/b")
    site.authorizer.answer("a/b", BEARER, old)
    site.authorizer.answer("a/b", BEARER, old)
    assert site.sent() == "Bearer 2"
    assert len(site.seen) == 2


@pytest.mark.parametrize("credential", [None, ada()])
def test_a_token_is_never_asked_for_without_https(credential: Credential | None) -> None:
    site = Site(credential)
    challenge = BEARER.replace("https", "http")
    assert "without https" in str(site.refused(challenge))
    assert site.seen == []
    plain = Site(credential, base="http://h.io")
    assert plain.header(challenge) == "Bearer T"


def test_a_rejected_password_names_its_source_and_whether_it_was_needed() -> None:
    site = Site(ada())

    def private(request: Request) -> Answer:
        return Answer(401)

    def public(request: Request) -> Answer:
        return Answer(401) if request.authorization.startswith("Basic") else Answer(body={"token": "T"})

    def token_for_nothing(request: Request) -> Answer:
        return Answer(401) if "/v2/" in request.url else public(request)

    expected = {
        private: "anonymous users may not read it either",
        public: "it can be read without credentials",
        token_for_nothing: "anonymous users may not read it either",
    }
    for answer, words in expected.items():
        site.answer = answer
        error = site.refused()
        assert error.identifier == "registry-login-rejected"
        assert "h.io rejects user ada from ~/.docker/config.json for a/b (401" in str(error)
        assert words in str(error) and "`pinnace login h.io`" in str(error)


def test_a_password_that_basic_refuses_names_its_source() -> None:
    site = Site(ada())
    site.header(BASIC)
    error = site.authorizer.refused("a/b")
    assert "rejects user ada from ~/.docker/config.json" in str(error)


def test_a_user_who_may_not_read_is_told_so() -> None:
    site = Site(ada())
    site.header()
    error = site.authorizer.refused("a/b")
    assert "does not let user ada from ~/.docker/config.json read a/b" in str(error)


@pytest.mark.parametrize("challenge", [BEARER, BASIC, "Negotiate", "Bearer x=1"])
def test_without_a_credential_the_places_are_named_and_what_to_do(challenge: str) -> None:
    site = Site()
    site.answer = lambda request: Answer(401)
    error = site.refused(challenge)
    assert error.identifier == "registry-unauthorized"
    assert "does not let anonymous users read a/b" in str(error)
    assert "no credentials for h.io in ~/one, ~/two" in str(error)
    assert "`pinnace login h.io`" in str(error)


def test_the_user_of_the_reference_is_named_if_nothing_is_known_of_him() -> None:
    site = Site()
    site.user = "eve"
    error = site.refused(BASIC)
    assert "no credentials for user eve of h.io" in str(error)
    assert "`pinnace login --username eve h.io`" in str(error)


@pytest.mark.parametrize("token", [CANARY + "\r\nX: y", 5, "", None, [CANARY]])
def test_what_is_no_token_is_an_error_that_does_not_show_it(token: object) -> None:
    site = Site(ada())
    site.answer = lambda request: Answer(body={"token": token})
    assert "gives no token" in str(site.refused())
