"""Rows for tests that only look at them: facts that matter to nobody, but for those that are given."""

from datetime import UTC, datetime
from typing import Any

from files_app.models import File, Transfer

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def make_file(name: str = "a.txt", size: int = 1, **facts: Any) -> File:
    usual = {"mtime": NOW, "etag": "e", "content_type": "text/plain"}
    return File.objects.create(name=name, size=size, **{**usual, **facts})


def make_transfer(**facts: Any) -> Transfer:
    usual: dict[str, Any] = {
        "name": "a.txt",
        "direction": "download",
        "size": 100,
        "length": 100,
        "client": "127.0.0.1:5000",
        "via": "tcp",
        "thread": "ClientThread-1",
        "started_at": NOW,
    }
    return Transfer.objects.create(**{**usual, **facts})
