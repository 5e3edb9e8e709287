"""Per-form tokens: one that was made for a path is good there only (P19)."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from strongroom import CsrfRules, SessionPolicy
from strongroom.integrations.starlette import SessionMiddleware, session_of
from strongroom.keyfile import generate

OWN = {"sec-fetch-site": "same-origin"}


async def form(request: Request) -> PlainTextResponse:
    return PlainTextResponse(session_of(request).csrf_token(request.query_params.get("for", "")))


async def done(request: Request) -> PlainTextResponse:
    return PlainTextResponse("done")


@pytest.fixture
def client():
    app = Starlette(
        routes=[
            Route("/form", form),
            Route("/transfer", done, methods=["POST"]),
            Route("/rename", done, methods=["POST"]),
        ]
    )
    policy = SessionPolicy.for_development(csrf=CsrfRules(own_token_paths=("/transfer",)))
    app.add_middleware(
        SessionMiddleware, store="memory://", keys=generate("forms", 0), policy=policy, sinks=()
    )
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def post(client: TestClient, path: str, made_for: str, **headers: str) -> int:
    token = client.get("/form", params={"for": made_for}).text
    return client.post(path, data={"csrf_token": token}, headers=headers).status_code


def test_a_token_of_its_own_form_passes(client: TestClient) -> None:
    """Made for this path, it is enough where the browser's headers say nothing (P19)."""
    assert post(client, "/transfer", "/transfer") == 200
    assert post(client, "/rename", "/rename") == 200


def test_a_token_of_another_form_does_not(client: TestClient) -> None:
    """A token that leaked from one form cannot be spent on another (P19)."""
    assert post(client, "/transfer", "/rename") == 403
    assert post(client, "/rename", "/transfer") == 403


def test_the_general_token_passes_only_where_no_own_one_is_asked_for(client: TestClient) -> None:
    """`own_token_paths` accept nothing but the token of their own form (P19)."""
    assert post(client, "/rename", "") == 200
    assert post(client, "/transfer", "") == 403


def test_an_own_token_is_asked_for_from_our_own_pages_too(client: TestClient) -> None:
    """Markup that was smuggled into another page of ours cannot post to a guarded path (P19)."""
    assert client.post("/transfer", headers=OWN).status_code == 403
    assert client.post("/rename", headers=OWN).status_code == 200
    assert post(client, "/transfer", "/transfer", **OWN) == 200
