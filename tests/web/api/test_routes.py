"""What a server answers below /v1/: its models, and whatever it refuses in the API's form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import openai
import pytest

from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.web.access import Access
from tests.web.running import Running, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarded(tiny_moshi: Moshi) -> Iterator[Running]:
    """A server that asks for a token, and lets one page served elsewhere talk."""
    running = Running(tiny_moshi, access=Access(token="s3cret", origins=["https://app.example"]))
    running.call(running.server.model.ready(lambda: None))
    yield running
    running.stop()


def client(running: Running, key: str = "s3cret") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)


def ask(running: Running, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    """One request with the token."""

    async def go() -> tuple[int, dict[str, str], Any]:
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer s3cret", **headers}) as session,
            session.request(method, running.url + path) as answer,
        ):
            body = await answer.json() if answer.content_type == "application/json" else await answer.text()
            return answer.status, dict(answer.headers), body

    return run(go())


def test_openais_client_lists_the_models_and_their_state(guarded: Running) -> None:
    with client(guarded) as api:
        (model,) = api.models.list().data
        assert (model.id, model.object, model.owned_by) == ("tiny", "model", "local")
        assert model.to_dict()["state"] == "ready"
        assert model.to_dict()["tasks"] == ["talk"]
        assert api.models.retrieve("tiny") == model
        with pytest.raises(openai.NotFoundError, match=r"no model 'gpt-9'.*tiny") as refused:
            api.models.retrieve("gpt-9")
        assert refused.value.code == "model_not_found"
        assert refused.value.param == "model"


def test_a_wrong_key_is_openais_authentication_error(guarded: Running) -> None:
    with client(guarded, "wrong") as api, pytest.raises(openai.AuthenticationError, match="token") as refused:
        api.models.list()
    assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/nothing", 404, "invalid_request_error"),
        ("POST", "/v1/models", 404, "invalid_request_error"),
        ("POST", "/v1/chat/completions", 501, "server_error"),
        ("POST", "/v1/images/generations", 501, "server_error"),
        ("POST", "/v1/audio/voices", 501, "server_error"),
        ("DELETE", "/v1/audio/voices/me", 501, "server_error"),
        ("POST", "/v1/audio/voice_consents", 501, "server_error"),
        ("POST", "/v1/realtime/calls", 501, "server_error"),
        ("POST", "/v1/realtime/client_secrets", 501, "server_error"),
    ],
)
def test_what_is_not_there_is_refused_in_the_apis_form(
    guarded: Running, method: str, path: str, status: int, kind: str
) -> None:
    found, headers, body = ask(guarded, method, path)
    assert found == status
    assert body["error"]["type"] == kind
    assert len(body["error"]["message"]) > 20
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert headers["Connection"] == "close"


def test_addresses_outside_the_api_keep_their_own_form(guarded: Running) -> None:
    assert isinstance(ask(guarded, "GET", "/nothing")[2], str)


def test_pages_elsewhere_need_permission(guarded: Running) -> None:
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, status in (("https://app.example", 204), ("https://evil.example", 403)):
        for extra in ({}, {"Authorization": "none"}):  # browsers ask for permission without the token
            found, headers, _ = ask(guarded, "OPTIONS", "/v1/audio/speech", Origin=origin, **wish, **extra)
            assert found == status
            assert headers.get("Access-Control-Allow-Origin") == (origin if status == 204 else None)
            assert headers.get("Access-Control-Allow-Headers") == ("authorization" if status == 204 else None)
        found, headers, _ = ask(guarded, "GET", "/v1/models", Origin=origin)
        assert found == (200 if status == 204 else 403)
        assert headers.get("Access-Control-Allow-Origin") == (origin if status == 204 else None)
    assert "Access-Control-Allow-Origin" not in ask(guarded, "GET", "/v1/models")[1]
    assert ask(guarded, "OPTIONS", "/v1/models")[0] == 404
    assert ask(guarded, "GET", "/v1/models", Authorization="Bearer wrong")[0] == 401
