"""The last step of an upload: its partial file gets its name, in one rename."""

import contextlib
from dataclasses import replace

from fileserver.names import shown
from fileserver.storage import descriptions
from fileserver.storage import syscalls as disk
from fileserver.storage.descriptions import Description, Published
from fileserver.storage.free_names import candidates, require_replaceable
from fileserver.storage.hidden import HiddenFolder
from fileserver.storage.paths import Paths
from fileserver.storage.place import Place, not_in_that_state, require_state
from fileserver.wire.replies import ErrorReply

_RETRIES = 50


class Publisher:
    """For any thread; the caller has the claim to the upload."""

    def __init__(self, paths: Paths, hidden: HiddenFolder) -> None:
        self._paths = paths
        self._hidden = hidden

    def publish(self, upload_id: str, description: Description, exists: str, etag: str | None) -> Published:
        """Raises ``exists``, or ``changed`` unless a file is in the state ``etag``."""
        for name in candidates(self._paths, description.name, exists):
            with contextlib.suppress(FileExistsError):
                return Published(name, self._publish_as(name, upload_id, description, exists, etag))
        raise ErrorReply("exists", f"There is a file {shown(description.name)} already.")

    def _publish_as(
        self, name: str, upload_id: str, description: Description, exists: str, etag: str | None
    ) -> bool:
        """Whether there was such a file before."""
        # A folder that a delete has emptied is removed between our mkdir and our rename: once more.
        attempt = 0
        while True:
            attempt += 1
            try:
                with self._paths.at(name, make=etag is None) as place, self._hidden.open() as folder:
                    require_replaceable(place, name, exists)
                    partial = Place(folder.dir_fd, folder.child(upload_id))
                    partial.lstat()
                    # From here on a description without its bytes means: published, under this name.
                    descriptions.write(folder, upload_id, replace(description, final=name))
                    if exists == "replace":
                        with self._paths.changing:
                            require_state(place, name, etag)
                            replaced = place.is_taken()
                            disk.rename(partial, place)
                    else:
                        replaced = False
                        disk.rename_if_free(partial, place)
                    place.sync_folder()
                    folder.sync_folder()
                return replaced
            except ErrorReply as error:
                if error.code == "not-found" and etag is not None:  # its folder went with the file
                    raise not_in_that_state(name) from None
                if error.code != "not-found" or attempt == _RETRIES:
                    raise
