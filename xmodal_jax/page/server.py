"""The routes of the page. It serves photos of one folder and nothing else, to this machine unless it is told otherwise.

Every answer forbids other hosts' scripts, pictures and frames. What changes something is a POST with a token that only the page
knows; requests to another name than those that the server was started for are refused, so that no foreign page can reach it.
"""

import asyncio
import concurrent.futures
import functools
import json
import secrets

from absl import logging
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xmodal_jax.errors import UserError
from xmodal_jax.page import document

UPLOAD = 20_000_000  # bytes of an uploaded picture
BODY = 100_000  # of other requests
WAITING = 32  # requests in the queue
LOCAL = ("localhost", "127.0.0.1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


class Busy(Exception):
    """Too many requests wait for the models."""


def make(desk, hosts=LOCAL):
    """The application of a `Desk`; hosts: names by which it may be reached."""
    token, thumbnails = secrets.token_urlsafe(24), functools.lru_cache(2000)(functools.partial(desk.jpeg, longest=320))
    worker, waiting = concurrent.futures.ThreadPoolExecutor(1), [0]  # one user's work after the other's

    async def run(function, *args, **kwargs):
        if waiting[0] >= WAITING:
            raise Busy
        waiting[0] += 1
        try:
            call = functools.partial(function, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(worker, call)
        finally:
            waiting[0] -= 1

    def answering(route):
        """A route whose mistakes are told in one sentence."""

        @functools.wraps(route)
        async def respond(request):
            try:
                if request.method == "POST" and not secrets.compare_digest(request.headers.get("x-token", ""), token):
                    return JSONResponse({"error": "Reload the page: it was opened before the server started."}, 403, HEADERS)
                found = await route(request)
            except UserError as error:
                return JSONResponse({"error": str(error)}, 400, HEADERS)
            except Busy:
                return JSONResponse({"error": "Too many requests are waiting: try again in a moment."}, 503, HEADERS)
            except (ValueError, TypeError, KeyError) as error:
                return JSONResponse({"error": f"This request cannot be read ({error})."}, 400, HEADERS)
            except Exception:
                logging.exception("a request failed: %s", request.url.path)
                return JSONResponse({"error": "This did not work; the server's log tells more."}, 500, HEADERS)
            return found if isinstance(found, Response) else JSONResponse(found, headers=HEADERS)

        return respond

    def text(content, kind):
        async def respond(request):
            return Response(content, media_type=kind, headers=HEADERS)

        return respond

    @answering
    async def about(request):
        return await run(desk.about) | {"token": token}

    @answering
    async def search(request):
        asked = await body(request, BODY)
        names = {"text", "like", "model", "top", "percent", "threshold"}
        return await run(desk.query, **{name: asked[name] for name in names & asked.keys()})

    @answering
    async def upload(request):
        data = await raw(request, UPLOAD)
        return await run(desk.query, picture=data, model=request.query_params.get("model"))

    @answering
    async def act(request):
        asked = await body(request, BODY)
        verbs = {
            "look": ("name", "text", "model"), "tell": ("name", "question"), "learn": ("text", "right", "wrong", "model"),
            "undo": ("model",), "keep": ("model",),
        }  # fmt: skip
        verb = request.path_params["verb"]
        if verb not in verbs:
            raise UserError(f"There is no {verb!r} here.")
        return await run(getattr(desk, verb), **{name: asked[name] for name in verbs[verb] if name in asked})

    @answering
    async def photo(request):
        name = request.path_params["name"]
        read = thumbnails if request.path_params["kind"] == "thumbnail" else desk.jpeg
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(None, read, name)  # needs no model
        return Response(data, media_type="image/jpeg", headers={**HEADERS, "Cache-Control": "private, max-age=300"})

    routes = [
        Route("/", text(document.HTML, "text/html")), Route("/page.css", text(document.CSS, "text/css")),
        Route("/page.js", text(document.JS, "text/javascript")), Route("/about", about),
        Route("/search", search, methods=["POST"]), Route("/upload", upload, methods=["POST"]),
        Route("/do/{verb}", act, methods=["POST"]), Route("/{kind:str}/{name:str}", photo),
    ]  # fmt: skip
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


async def raw(request, most):
    """A request's body, at most so many bytes; UserError above."""
    told = request.headers.get("content-length", "0")
    parts, size = [], int(told) if told.isdigit() else 0
    if size <= most:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                break
            parts.append(part)
    if size > most:
        raise UserError(f"This is too large: {most // 1000} kB are the most.")
    return b"".join(parts)


async def body(request, most):
    """A request's JSON object."""
    found = json.loads(await raw(request, most) or b"{}")
    if not isinstance(found, dict):
        raise UserError("This request is no JSON object.")
    return found
