"""How registries are reached: secrets, waits, connections, proxies, mirrors, https for real."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from integration import faults
from integration.certificates import Authority
from integration.faults import OCI, Front, packed
from integration.puller import Puller
from integration.registry import Layout, Registry, run
from integration.test_registry_behaviours import BLOB, FOREVER, LAYERS, SMALL, M
from integration.trees import entry, layer
from pinnace.registry import connections


def test_the_registry_of_these_tests_is_one(front: Front, tmp_path: Path) -> None:
    """Another client copies from it what ours does."""
    front.put("a/b", "1", LAYERS)
    run(
        "skopeo",
        "copy",
        "-q",
        "--src-tls-verify=false",
        f"docker://{front.host}/a/b:1",
        f"dir:{tmp_path}/copy",
    )
    assert (tmp_path / "copy" / BLOB.partition(":")[2]).read_bytes() == LAYERS[1][0]


def test_streams_that_wait_for_memory_keep_no_connection_from_the_others(
    puller: Puller, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them asks for all the memory that there is for windows."""
    monkeypatch.setenv("PINNACE_CONNECTIONS_PER_HOST", "1")
    monkeypatch.setenv("PINNACE_PART_SIZE", str(1 << 20))
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    layers = []
    for number in range(4):
        tar = layer([entry(f"f{number}", content=os.urandom(4 << 20))])
        stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        layers.append((stream.compress(tar) + stream.flush(), tar, f"{OCI}.layer.v1.tar+zstd"))
    front.put("a/b", "1", layers)
    puller.succeeds(f"{front.host}/a/b:1")


def test_a_registry_without_head_is_asked_for_the_manifest(puller: Puller, front: Front) -> None:
    front.put("a/b", "1", LAYERS)
    front.on(M, faults.status(405), times=9, method="HEAD")
    puller.succeeds(f"{front.host}/a/b:1")
    layers = len(front.paths(BLOB))
    puller.succeeds(f"{front.host}/a/b:1")
    assert len(front.paths(M)) == 2 and len(front.paths(BLOB)) == layers


def test_waits_that_a_registry_asks_for_are_kept(puller: Puller, front: Front) -> None:
    front.put("a/b", "1", LAYERS)
    front.on(M, faults.status(503, {"Retry-After": "7"}), times=2)
    puller.succeeds(f"{front.host}/a/b:1")
    assert len(puller.slept) == 2 and min(puller.slept) >= 7


def test_what_another_host_is_redirected_to_sees_no_secret(puller: Puller, front: Front) -> None:
    front.put("a/b", "1", LAYERS)
    with Front() as storage:
        storage.blobs = front.blobs
        challenge = {"WWW-Authenticate": f'Bearer realm="{front.url}/token",service="s"'}
        bearer = {"Content-Type": "application/json", "Set-Cookie": "session=secret; Path=/"}

        def guarded(request: faults.Request, reply: faults.Reply) -> faults.Reply:
            if "authorization" not in request.headers:
                return faults.Reply(401, challenge)
            headers = {**reply.headers, "Set-Cookie": "session=secret; Path=/"}
            if "/blobs/" not in request.path:
                return faults.Reply(reply.status, headers, reply.body)
            return faults.Reply(307, {**headers, "Location": storage.url + request.path})

        front.on("/token", faults.status(200, bearer, b'{"token": "T"}'), times=FOREVER)
        front.on("/v2/", guarded, times=FOREVER)
        puller.succeeds(f"{front.host}/a/b:1")
        assert any(request.headers.get("authorization") == "Bearer T" for request in front.seen)
        assert len(storage.seen) >= 3
        assert [r for r in storage.seen if "authorization" in r.headers or "cookie" in r.headers] == []
        assert [r for r in front.seen if "cookie" in r.headers] == []


def test_connections_are_used_again(puller: Puller, front: Front) -> None:
    front.put("a/b", "1", [packed(layer([entry(f"f{n}", content=b"x")])) for n in range(12)])
    puller.succeeds(f"{front.host}/a/b:1")
    assert len(front.seen) >= 14 and front.connections <= 4


def test_no_more_connections_are_open_than_configured(
    puller: Puller, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINNACE_CONNECTIONS", "8")
    monkeypatch.setenv("PINNACE_CONNECTIONS_PER_HOST", "2")
    front.put("a/b", "1", [packed(layer([entry(f"f{n}", content=b"x")])) for n in range(12)])
    puller.succeeds(f"{front.host}/a/b:1")
    assert front.most_open <= 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(authority: Authority) -> Iterator[Front]:
    """A registry on https."""
    with Front((authority.server, None)) as running:
        running.put("a/b", "1", LAYERS)
        yield running


def test_an_unknown_authority_is_refused_with_the_way_out(puller: Puller, secure: Front) -> None:
    puller.configure((secure.host, "plain_http = false"))
    said = puller.fails(f"{secure.host}/a/b:1")
    assert "no trusted https connection" in said and f"certs.d/{secure.host}/ca.crt" in said


def test_a_configured_authority_is_trusted(puller: Puller, secure: Front, authority: Authority) -> None:
    puller.configure((secure.host, f'ca = "{authority.ca}"'))
    puller.succeeds(f"{secure.host}/a/b:1")


def test_a_certificate_for_another_name_is_refused(puller: Puller, authority: Authority) -> None:
    with Front((authority.other, None)) as front:
        front.put("a/b", "1", LAYERS)
        by_name = f"localhost:{front.port}"
        puller.configure(*((host, f'ca = "{authority.ca}"') for host in (front.host, by_name)))
        said = puller.fails(f"{front.host}/a/b:1")
        assert "no trusted https" in said and "use the name that its certificate is for" in said
        assert front.seen == []
        puller.succeeds(f"{by_name}/a/b:1")


def test_an_authority_of_one_registry_counts_for_no_other(
    puller: Puller, secure: Front, authority: Authority
) -> None:
    with Front((authority.server, None)) as other:
        puller.configure((other.host, f'ca = "{authority.ca}"'), (secure.host, "plain_http = false"))
        assert "no trusted https" in puller.fails(f"{secure.host}/a/b:1")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_authorities_of_the_environment_are_trusted(
    variable: str, puller: Puller, secure: Front, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable == "SSL_CERT_DIR":
        run("openssl", "rehash", str(authority.directory))
    monkeypatch.setenv(variable, str(authority.ca if variable.endswith("FILE") else authority.directory))
    puller.configure((secure.host, "plain_http = false"))
    puller.succeeds(f"{secure.host}/a/b:1")


def test_authorities_of_the_environment_that_are_not_there_are_named(
    puller: Puller, secure: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
    puller.configure((secure.host, "plain_http = false"))
    said = puller.fails(f"{secure.host}/a/b:1")
    assert "/no/such.pem" in said and "SSL_CERT_FILE" in said


def test_certificates_of_docker_are_read(
    puller: Puller, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CERTS_D", (str(tmp_path / "none"), str(tmp_path / "certs.d")))
    with Front((authority.server, authority.ca)) as front:
        front.put("a/b", "1", LAYERS)
        place = tmp_path / "certs.d" / front.host
        place.mkdir(parents=True)
        shutil.copy(authority.ca, place / "ca.crt")
        said = puller.fails(f"{front.host}/a/b:1")
        assert "client_certificate" in said
        shutil.copy(authority.directory / "client.crt", place / "client.cert")
        said = puller.fails(f"{front.host}/a/b:1")
        assert "no client.key beside" in said
        shutil.copy(authority.directory / "client.key", place / "client.key")
        puller.succeeds(f"{front.host}/a/b:1")


def test_a_configured_client_certificate_is_shown(puller: Puller, authority: Authority) -> None:
    with Front((authority.server, authority.ca)) as front:
        front.put("a/b", "1", LAYERS)
        shown = f'client_certificate = "{authority.client}"'
        puller.configure((front.host, f'ca = "{authority.ca}"\n{shown}'))
        puller.succeeds(f"{front.host}/a/b:1")


@pytest.mark.parametrize("content", ["", "rubbish"])
def test_a_certificate_that_is_none_is_named(
    content: str, puller: Puller, secure: Front, tmp_path: Path
) -> None:
    (tmp_path / "bad.pem").write_text(content)
    puller.configure((secure.host, f'ca = "{tmp_path}/bad.pem"'))
    assert f"{tmp_path}/bad.pem cannot be used" in puller.fails(f"{secure.host}/a/b:1")


def test_plain_http_and_https_work_side_by_side(
    puller: Puller, front: Front, secure: Front, authority: Authority
) -> None:
    front.put("c/d", "1", LAYERS)
    puller.configure((secure.host, f'ca = "{authority.ca}"'), (front.host, "plain_http = true"))
    puller.succeeds(f"{secure.host}/a/b:1")
    puller.succeeds(f"{front.host}/c/d:1")
    assert secure.seen and front.seen


def test_a_registry_that_speaks_no_https_is_reached_by_http_only_where_listed(
    puller: Puller, front: Front
) -> None:
    front.put("a/b", "1", LAYERS)
    puller.configure((front.host, "plain_http = false"))
    assert "plain_http = true" in puller.fails(f"{front.host}/a/b:1")
    assert front.seen == []
    puller.configure((front.host, "plain_http = false\nhttp_fallback = true"))
    puller.succeeds(f"{front.host}/a/b:1")


def test_an_untrusted_certificate_is_no_reason_for_http(puller: Puller, secure: Front) -> None:
    puller.configure((secure.host, "plain_http = false\nhttp_fallback = true"))
    assert "no trusted https" in puller.fails(f"{secure.host}/a/b:1")


@pytest.mark.parametrize(
    ("allowed", "works"), [("false", False), ("true", True), ("host", True), ("other", False)]
)
def test_https_is_left_for_http_storage_only_where_allowed(
    allowed: str, works: bool, puller: Puller, secure: Front, front: Front, authority: Authority
) -> None:
    front.blobs = secure.blobs
    secure.on("/blobs/", faults.redirect(front.url + "{path}"), times=FOREVER)
    listed = {"host": f'["{front.host}"]', "other": '["storage.example"]'}.get(allowed, allowed)
    puller.configure((secure.host, f'ca = "{authority.ca}"\nhttp_redirects = {listed}'))
    if works:
        puller.succeeds(f"{secure.host}/a/b:1")
    else:
        said = puller.fails(f"{secure.host}/a/b:1")
        assert f'http_redirects = ["{front.host}"]' in said and front.seen == []


def test_a_proxy_is_used_except_for_this_machine(
    puller: Puller, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.put("a/b", "1", LAYERS)
    with Front() as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        puller.succeeds(f"{front.host}/a/b:1")
        assert proxy.seen == []
        proxy.put("a/b", "2", LAYERS[1:])
        puller.configure(("registry.test", "plain_http = true"))
        puller.fails("registry.test/a/b:2")  # a proxy gets whole addresses, which this one does not know
        assert proxy.seen[0].path == "http://registry.test/v2/a/b/manifests/2"
        seen = len(proxy.seen)
        monkeypatch.setenv("no_proxy", "registry.test")
        assert "cannot connect to registry.test" in puller.fails("registry.test/a/b:2")
        assert len(proxy.seen) == seen


def test_docker_registry_with_tls(puller: Puller, authority: Authority, tmp_path: Path) -> None:
    registry = Registry(
        tmp_path, tls=(authority.directory / "server.crt", authority.directory / "server.key")
    )
    try:
        layout = Layout(tmp_path / "layout")
        (tmp_path / "1.tar").write_bytes(SMALL)
        layout.add_layer(tmp_path / "1.tar")
        reference = registry.push(layout.path, "latest", "test/tls:1")
        assert "no trusted https" not in puller.fails(reference)  # http, which this registry refuses
        puller.configure((registry.host, f'ca = "{authority.ca}"'))
        puller.succeeds(reference)
    finally:
        registry.stop()


#: So slow that waiting takes most of the time, however busy this machine is.
SLOW = faults.limited(1 << 20)


@pytest.fixture
def storage(puller: Puller, front: Front, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """An object store that has the blobs of ``front``; the layer of a/b:1 comes in parts."""
    monkeypatch.setenv("PINNACE_PART_SIZE", "256K")
    front.put("a/b", "1", [packed(layer([entry("f", content=os.urandom(3 << 20))]))])
    with Front() as running:
        running.blobs = front.blobs
        yield running


@pytest.mark.parametrize("fault", [None, faults.cut(200_000)])
def test_a_layer_that_one_connection_brings_slowly_comes_over_several(
    fault: faults.Fault | None, puller: Puller, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINNACE_PART_SIZE", "256K")
    front.put("a/b", "1", [packed(layer([entry("f", content=os.urandom(3 << 20))]))])
    if fault is not None:
        front.on("/blobs/", fault, times=1, skip=4)
    front.on("/blobs/", SLOW, times=FOREVER)
    puller.succeeds(f"{front.host}/a/b:1")
    assert 2 <= front.most_open <= 4
    asked = {request.headers["range"] for request in front.seen if "range" in request.headers}
    assert len(asked) >= 10


def test_parts_come_from_where_the_first_was_redirected_to(
    storage: Front, puller: Puller, front: Front
) -> None:
    front.on("/blobs/", faults.redirect(storage.url + "{path}"), times=FOREVER)
    storage.on("/blobs/", SLOW, times=FOREVER)
    puller.succeeds(f"{front.host}/a/b:1")
    large = max(front.blobs, key=lambda digest: len(front.blobs[digest]))
    assert len(front.paths(large)) == 1 and len(storage.paths(large)) >= 10
    assert [request for request in storage.seen if "authorization" in request.headers] == []


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_location_that_has_expired_is_asked_for_anew(
    code: int, storage: Front, puller: Puller, front: Front
) -> None:
    storage.on("first", faults.status(code), times=FOREVER, skip=4)
    storage.on("/blobs/", SLOW, times=FOREVER)
    front.on("/blobs/", faults.redirect(storage.url + "{path}?first"), times=2)
    front.on("/blobs/", faults.redirect(storage.url + "{path}?second"), times=FOREVER)
    puller.succeeds(f"{front.host}/a/b:1")
    assert storage.paths("second") and len(front.paths("/blobs/")) <= 2 + 4


@pytest.mark.parametrize("code", [403, 404])
def test_a_storage_that_has_nothing_any_more_is_told(
    code: int, storage: Front, puller: Puller, front: Front
) -> None:
    front.on("/blobs/", faults.redirect(storage.url + "{path}"), times=FOREVER)
    storage.on("/blobs/", faults.status(code), times=FOREVER, skip=4)
    storage.on("/blobs/", SLOW, times=FOREVER)
    said = puller.fails(f"{front.host}/a/b:1")
    assert ("(403 Forbidden)" if code == 403 else "has no blob") in said


def test_ranges_that_a_registry_stops_honouring_are_done_without(
    puller: Puller, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINNACE_PART_SIZE", "256K")
    one = packed(layer([entry("f", content=os.urandom(3 << 20))]))
    front.put("a/b", "1", [one])
    front.on("/blobs/", SLOW, times=4)
    front.on("/blobs/", faults.status(200, {}, one[0]), times=FOREVER)
    puller.succeeds(f"{front.host}/a/b:1")


def test_events_of_a_pull_are_json(puller: Puller, front: Front) -> None:
    front.put("a/b", "1", LAYERS)
    for tag, last in (("1", "image"), ("2", "error")):
        events = puller.events(f"{front.host}/a/b:{tag}")
        assert events[-1]["event"] == last
        if tag == "1":
            assert [e["event"] for e in events].count("layer-finished") == 2
        else:
            assert events[-1]["error"] == "unknown-tag"
