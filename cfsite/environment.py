"""Variables of the environment as settings. What cannot be is said by the variable's name, in a sentence."""

import ipaddress
import re
import zoneinfo
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

_URL = re.compile(
    r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?(/[a-z0-9._~/-]*)?", re.IGNORECASE | re.ASCII
)
_SUB_PATH = re.compile(r"(/[a-z0-9._~-]+)+", re.IGNORECASE | re.ASCII)
_YES = frozenset({"true", "on", "yes", "y", "1", "ok"})
_NO = frozenset({"false", "off", "no", "n", "0", ""})


class Env(environ.Env):
    """Raises ``ImproperlyConfigured``."""

    def get_value(self, var: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().get_value(var, *args, **kwargs)
        except ValueError as error:  # environ says only how it is wrong
            raise ImproperlyConfigured(f"{var}: {error}.") from error

    def number(self, var: str, default: float, least: float, most: float) -> Any:
        """From ``least`` to ``most``, and whole if ``default`` is."""
        text = self.str(var, str(default))  # environ takes inf for nothing, and 1e6 for 16
        kind = type(default)
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            bounds = f"from {least} to {most}" if kind is int else f"from {least:g} to {most:g}"
            what = "a whole number" if kind is int else "a number"
            raise ImproperlyConfigured(f"{var}: {text!r} is not {what} {bounds}.")
        return value

    def flag(self, var: str, default: bool) -> bool:
        text = self.str(var, str(default)).strip().lower()
        if text not in _YES | _NO:
            raise ImproperlyConfigured(f"{var}: {text!r} is neither yes nor no.")
        return text in _YES

    def file(self, var: str, default: str, folder: Path) -> str:
        """The path of a file, which may be given as seen from ``folder``; empty if none is named."""
        name: str = self.str(var, default)
        return name and str(folder / name)

    def time_zone(self, var: str, default: str) -> str:
        name: str = self.str(var, default)
        try:
            zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            raise ImproperlyConfigured(f"{var}: {name!r} is no time zone, as Europe/Berlin is.") from None
        return name

    def networks(self, var: str, default: list[str]) -> list[str]:
        texts = [text.strip() for text in self.list(var, default=default)]
        for text in texts:
            try:
                ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ImproperlyConfigured(f"{var}: {text!r} is no address and no network.") from None
        return texts

    def choice(self, var: str, default: str, among: Sequence[str]) -> str:
        text = str(self.str(var, default)).strip().lower()
        if text not in among:
            raise ImproperlyConfigured(f"{var}: {text!r} is none of {', '.join(among)}.")
        return text

    def url(self, var: str, default: str) -> str:
        """Of a page: http or https, a host, perhaps a port and a path; empty if there is none."""
        text = str(self.str(var, default)).strip()
        if text and not _URL.fullmatch(text):
            raise ImproperlyConfigured(f"{var}: {text!r} is no address of a page, as https://example.org is.")
        return text

    def sub_path(self, var: str, default: str) -> str | None:
        text = str(self.str(var, default)).strip().rstrip("/")
        if text and not _SUB_PATH.fullmatch(text):
            raise ImproperlyConfigured(f"{var}: {text!r} is no path, as /files is.")
        return text or None

    def database(self, var: str, default: str) -> dict[str, Any]:
        url = self.str(var, "") or default
        scheme = url.partition(":")[0]  # the rest can hold a password, which is for no log
        if scheme not in self.DB_SCHEMES:
            raise ImproperlyConfigured(f"{var}: {scheme!r} is no beginning; sqlite:/// and postgres:// are.")
        try:
            return dict(self.db_url_config(url))
        except ValueError:
            raise ImproperlyConfigured(f"{var}: the host or the port in it cannot be read.") from None
