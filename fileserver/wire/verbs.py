"""The verbs of CFS/1: the table ``VERBS`` says what each takes; by it a line becomes a request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fileserver import rights
from fileserver.names import shown
from fileserver.rights import Right
from fileserver.wire import requests
from fileserver.wire.fields import (
    Field,
    choice,
    count,
    flag,
    json_count,
    list_limit,
    metadata,
    pace,
    principal,
    sha256,
    text,
)
from fileserver.wire.lines import Fields, is_deep, parse_object
from fileserver.wire.replies import ErrorReply

# The words of the protocol for the rights that the server asks for, in the order in which ``AUTH`` tells
# them.
RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "read": (rights.LIST, rights.GET),
    "write": (rights.ADD, rights.REPLACE),
    "delete": (rights.DELETE,),
    "watch": (rights.WATCH,),
    "control": (rights.CONTROL,),
}


def word_of(right: Right) -> str:
    """The word of the protocol for a right."""
    return next((word for word, asked in RIGHTS.items() if right in asked), right)


@dataclass(frozen=True, slots=True)
class Verb:
    help: str
    right: str | None = None  # one of ``RIGHTS``
    main: str | None = None
    fields: Mapping[str, Field] = field(default_factory=dict)
    request: Callable[..., requests.Fields] = requests.Nothing  # made of the fields
    one_of: tuple[str, ...] = ()  # of these, exactly one must be given
    may_block: bool = True  # before the first byte of its reply; if not, it announces by itself when it must

    def read(self, name: str, given: Fields) -> requests.Fields:
        unknown = given.keys() - self.fields.keys()
        if unknown:
            raise ErrorReply("bad-request", f"{name} has no field {shown(min(unknown), 40)}.")
        values = {}
        for key, rule in self.fields.items():
            if key in given and (given[key] is not None or rule.default is not None or rule.required):
                values[key] = rule.read(key, given[key])
            elif rule.required:
                raise ErrorReply("bad-request", f"{name} needs the field '{key}'; HELP shows how.")
            else:
                values[key] = rule.default
        if self.one_of and sum(values[key] is not None for key in self.one_of) != 1:
            raise ErrorReply(
                "bad-request", f"{name} needs either {' or '.join(self.one_of)}; HELP shows how."
            )
        return self.request(**values)


# Only the site, which proves itself with its own token, may speak for somebody else.
RELAY_FIELDS = {
    "client": Field(text),
    "user": Field(text),
    "via": Field(choice("web")),
    "principal": Field(principal),
}
_NAME = Field(text, required=True)
_ID = Field(count, required=True)

VERBS: Mapping[str, Verb] = {
    "PING": Verb("PING: is the server there, and how busy is it"),
    "HELP": Verb("HELP: this list"),
    "AUTH": Verb(
        "AUTH token: say who you are",
        main="token",
        fields={"token": Field(text, required=True)},
        request=requests.Auth,
    ),
    "LIST": Verb(
        'LIST [prefix] or LIST {"prefix", "after", "limit"}: the files, sorted by name',
        "read",
        "prefix",
        {"prefix": Field(text, ""), "after": Field(text, ""), "limit": Field(list_limit, 1000)},
        request=requests.List,
    ),
    "STAT": Verb(
        'STAT name or STAT {"upload"} or {"name", "identity"}: size, time, etag and hash of a file; how far '
        "an upload is",
        "read",
        "name",
        {"name": Field(text), "upload": Field(text), "identity": Field(flag, False)},
        one_of=("name", "upload"),
        request=requests.Stat,
    ),
    "GET": Verb(
        'GET name or GET {"name", "offset", "length", "etag", "pace"}: the bytes of a file',
        "read",
        "name",
        {
            "name": _NAME,
            "offset": Field(json_count, 0),
            "length": Field(json_count),
            "etag": Field(text),
            "pace": Field(pace),
            **RELAY_FIELDS,
        },
        may_block=False,  # most small files are in the system's memory
        request=requests.Get,
    ),
    "RECEIPT": Verb(
        'RECEIPT id or RECEIPT {"id", "sha256"}: I have stored all of that transfer',
        "read",
        "id",
        {"id": _ID, "sha256": Field(sha256)},
        request=requests.Receipt,
    ),
    "PUT": Verb(
        'PUT {"name", "size", "offset", "length", "upload", "sha256", "exists", "etag", "metadata"}: then '
        "the bytes",
        "write",
        "name",
        {
            "name": _NAME,
            "size": Field(json_count, required=True),
            "offset": Field(json_count, 0),
            "length": Field(json_count),
            "upload": Field(text),
            "sha256": Field(sha256),
            "exists": Field(choice("fail", "replace", "rename")),
            "etag": Field(text),
            "metadata": Field(metadata),
            **RELAY_FIELDS,
        },
        request=requests.Put,
    ),
    "DELETE": Verb(
        'DELETE name or DELETE {"upload"} or {"name", "etag"}: remove a file; give up an upload',
        "delete",
        "name",
        {"name": Field(text), "upload": Field(text), "etag": Field(text), **RELAY_FIELDS},
        one_of=("name", "upload"),
        request=requests.Delete,
    ),
    "MKDIR": Verb(
        "MKDIR name: make a folder that stays when it is empty",
        "write",
        "name",
        {"name": _NAME, **RELAY_FIELDS},
        request=requests.MakeFolder,
    ),
    "WATCH": Verb("WATCH: everything that moves, a JSON line at a time, until you close", "watch"),
    "CANCEL": Verb(
        "CANCEL id: end a live transfer",
        "control",
        "id",
        {"id": _ID, **RELAY_FIELDS},
        request=requests.Cancel,
    ),
    "QUIT": Verb("QUIT: goodbye"),
}


class Request(NamedTuple):
    verb: str
    fields: requests.Fields


def parse_request(line: bytes) -> Request:
    """Read one line without its end. Raises ``ErrorReply`` with a sentence for whoever typed it."""
    word, blank, rest = line.partition(b" ")
    name = word.decode("ascii", "replace").upper()
    verb = VERBS.get(name)
    if verb is None:
        raise ErrorReply("unknown-verb", f"There is no verb {shown(name, 24)}; HELP lists them.")
    try:
        argument = rest.decode("utf-8")
    except UnicodeDecodeError:
        raise ErrorReply("bad-request", f"The argument of {name} is not valid UTF-8.") from None
    if argument.startswith("{"):
        given = _given(argument, name)
    elif argument and verb.main is None:
        raise ErrorReply("bad-request", f"{name} takes no argument.")
    else:
        given = {verb.main: argument} if verb.main and blank else {}
    return Request(name, verb.read(name, given))


def _given(text: str, verb: str) -> Fields:
    """The fields of a JSON object, as they were sent."""
    if is_deep(text):
        raise ErrorReply("bad-request", f"The JSON of {verb} is nested too deeply.")
    try:
        return parse_object(text)
    except ValueError as error:
        reason = str(error).split(":")[0][:100]
        raise ErrorReply("bad-request", f"The argument of {verb} is not a JSON object: {reason}.") from None
