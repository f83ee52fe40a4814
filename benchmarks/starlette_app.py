"""The peer of Starlette: a ``FileResponse`` for each file of a folder."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

FILES = Path(os.environ["BENCHMARK_FILES"])


async def file(request: Request) -> FileResponse:
    return FileResponse(FILES / request.path_params["name"])


app = Starlette(routes=[Route("/{name}", file)])
