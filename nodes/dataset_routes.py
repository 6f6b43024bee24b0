"""What the dataset browser in Preview Dataset reads from ComfyUI's server, and the edits that it asks for.

    GET  /lazylora/datasets/{dataset}                       the pictures' captions, and what undo would take back
    GET  /lazylora/datasets/{dataset}/thumbnails/{picture}  a JPEG
    POST /lazylora/datasets/{dataset}/{edit}                caption, remove_tag or undo; answers as the first GET

Datasets and pictures go by ids that this session has given out: no address names a file or a folder. Captions are
written in ComfyUI's input folder only, and only for a page of this server: a POST has to be JSON and say where it is
from, which browsers do and other sites' pages cannot change."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import folder_paths
from aiohttp import web

from ..trainer_core.config import DatasetConfig
from ..trainer_core.data.examples import Example
from ..trainer_core.errors import DataError, LazyLoraError
from ..trainer_core.tagging.browsing import BrowsedDataset, OutOfDate
from ..trainer_core.web_api.origin import refusal_to_change
from .folders import is_inside

_ROOT = "/lazylora/datasets/{dataset}"
_THUMBNAIL_SIDE = 256
_MOST_DATASETS = 64
_LARGEST_BODY = 256 * 1024
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OpenedDatasets:
    """The datasets that nodes have opened since ComfyUI started: nothing else can be looked at."""

    def __init__(self):
        self._by_id: OrderedDict[str, BrowsedDataset] = OrderedDict()
        self._lock = threading.Lock()  # nodes run on ComfyUI's own thread, the routes on its server's

    def open(self, config: DatasetConfig, examples: Sequence[Example]) -> str:
        """The dataset's id. A folder that is opened again keeps it, as a graph may hold it in its cache."""
        dataset = BrowsedDataset(config, examples)
        with self._lock:
            known = [id for id, each in self._by_id.items() if each.folder == dataset.folder]
            id = known[0] if known else secrets.token_urlsafe(12)
            self._by_id[id] = dataset
            self._by_id.move_to_end(id)
            if len(self._by_id) > _MOST_DATASETS:
                self._by_id.popitem(last=False)
        return id

    def get(self, id: str) -> BrowsedDataset | None:
        """The dataset with this id."""
        with self._lock:
            return self._by_id.get(id)


OPENED = OpenedDatasets()


def add_routes(routes: web.RouteTableDef, opened: OpenedDatasets = OPENED) -> None:
    """Add the browser's routes to those of ComfyUI's server, before it starts."""
    decoding = asyncio.Semaphore(2)  # large pictures take memory

    def dataset_of(request: web.Request) -> BrowsedDataset:
        dataset = opened.get(request.match_info["dataset"])
        if dataset is None:
            raise web.HTTPNotFound(text="this dataset is not open any more; run the node again")
        return dataset

    @routes.get(_ROOT)
    @_in_sentences
    async def show(request: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(_described, dataset_of(request)))

    @routes.get(_ROOT + "/thumbnails/{picture}")
    @_in_sentences
    async def thumbnail(request: web.Request) -> web.Response:
        dataset = dataset_of(request)
        async with decoding:
            jpeg = await asyncio.to_thread(_thumbnail, dataset, request.match_info["picture"])
        headers = {"Cache-Control": "private, max-age=600", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=jpeg, content_type="image/jpeg", headers=headers)

    @routes.post(_ROOT + "/{edit:caption|remove_tag|undo}")
    @_in_sentences
    async def edit(request: web.Request) -> web.Response:
        _require_own_page(request)
        dataset = dataset_of(request)
        if not _may_edit(dataset):
            raise web.HTTPForbidden(text="captions are edited in ComfyUI's input folder only; move the dataset there")
        values = await _body(request)
        await asyncio.to_thread(_EDITS[request.match_info["edit"]], dataset, values)
        return web.json_response(await asyncio.to_thread(_described, dataset))


def _described(dataset: BrowsedDataset) -> dict[str, Any]:
    may_edit = _may_edit(dataset)
    newest = dataset.newest_change() if may_edit else None
    return {
        "folder": dataset.folder.name,
        "may_edit": may_edit,
        "undo": None if newest is None else {"number": newest.number, "what": newest.what, "files": newest.files},
        "pictures": [{"id": each.key, "name": each.name, "caption": each.caption} for each in dataset.pictures()],
    }


def _may_edit(dataset: BrowsedDataset) -> bool:
    return dataset.folder.is_dir() and is_inside(dataset.folder, folder_paths.get_input_directory())


def _thumbnail(dataset: BrowsedDataset, key: str) -> bytes:
    jpeg = io.BytesIO()
    dataset.thumbnail(key, _THUMBNAIL_SIDE).save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()


def _write_caption(dataset: BrowsedDataset, values: Mapping[str, Any]) -> None:
    dataset.write_caption(_given(values, "picture", str), _given(values, "seen", str), _given(values, "caption", str))


def _remove_tag(dataset: BrowsedDataset, values: Mapping[str, Any]) -> None:
    dataset.remove_tag(_given(values, "tag", str))


def _undo(dataset: BrowsedDataset, values: Mapping[str, Any]) -> None:
    dataset.undo(_given(values, "number", int))


_EDITS = {"caption": _write_caption, "remove_tag": _remove_tag, "undo": _undo}


def _given(values: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(values.get(name), kind):
        raise DataError(f'"{name}" is missing or of the wrong kind; reload the page')
    return values[name]


def _require_own_page(request: web.Request) -> None:
    refusal = refusal_to_change(request.headers)
    if refusal is not None:
        kinds = {403: web.HTTPForbidden, 415: web.HTTPUnsupportedMediaType}
        raise kinds[refusal.status](text=refusal.said)


async def _body(request: web.Request) -> Mapping[str, Any]:
    """The JSON object in a request. Raises HTTPRequestEntityTooLarge before more than is allowed has been read."""
    content = bytearray()
    async for chunk in request.content.iter_chunked(16 * 1024):
        content += chunk
        if len(content) > _LARGEST_BODY:
            raise web.HTTPRequestEntityTooLarge(max_size=_LARGEST_BODY, actual_size=len(content))
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise DataError("an edit is a JSON object; reload the page") from None
    if not isinstance(values, dict):
        raise DataError("an edit is a JSON object; reload the page")
    return values


def _in_sentences(handler: _Handler) -> _Handler:
    """A handler whose refusals are JSON with the sentence for the person who is looking."""

    @functools.wraps(handler)
    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except OutOfDate as error:
            return web.json_response({"error": str(error)}, status=409)
        except LazyLoraError as error:
            return web.json_response({"error": str(error)}, status=400)
        except web.HTTPException as refusal:
            return web.json_response({"error": refusal.text}, status=refusal.status)

    return answered
