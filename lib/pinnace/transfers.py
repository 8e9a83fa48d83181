"""The layers of an image, brought from a source into a store side by side."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, LifoQueue, SimpleQueue
from threading import Event, Thread
from typing import Any

from pinnace import digest as digests
from pinnace import threads
from pinnace.config import Settings
from pinnace.layers import Format, conversion, decompression
from pinnace.layers.converter import Converter
from pinnace.layers.windows import Windows
from pinnace.progress import Progress
from pinnace.sources import ImageSource, LayerBlob, SourceImage
from pinnace.store.build import Workspace
from pinnace.store.store import Catalogue

#: Seconds that other transfers get to stop in after one has failed, or after a signal.
_GRACE = 2.0
#: Compressed bytes up to which a layer is not worth a process of its own.
_SMALL = 4 << 20


class Transfers:
    """The transfers of one image's layers into ``place``.

    As many are converted at a time as there are ``connections``. While one is synced, hashed and
    recorded the next has begun: the processors would wait for the disk otherwise.
    """

    def __init__(
        self,
        source: ImageSource,
        image: SourceImage,
        known: Catalogue,
        place: Workspace,
        settings: Settings,
        progress: Progress,
    ) -> None:
        self._source = source
        self._image = image
        self._known = known
        self._place = place
        self._progress = progress
        self._connections = max(1, settings["connections"])
        self._settings = settings
        self._windows = Windows()
        self._stop = Event()
        #: Those that are free. The last one used comes first, so that few processes are started.
        self._converters: LifoQueue[Converter] = LifoQueue()
        for _ in range(self._connections):
            self._converters.put(Converter())

    def run(self, form: Format, held: ExitStack) -> dict[str, str]:
        """Files of all layers by diff ID; after the first failure the other transfers stop.

        Those that lie in other stores stay there until ``held`` is closed.
        """
        blobs = {blob.diff_id: blob for blob in self._image.layers}
        # The largest first: the one that begins last would keep a single processor busy.
        todo = deque(sorted(blobs.values(), key=lambda blob: -blob.size))
        done: SimpleQueue[Any] = SimpleQueue()

        def work() -> None:
            try:
                while not self._stop.is_set():
                    try:
                        blob = todo.popleft()
                    except IndexError:
                        return
                    done.put((blob.diff_id, self._file(blob, form, held)))
            except BaseException as error:
                done.put(error)

        files: dict[str, str] = {}
        running: list[Thread] = []
        try:
            for _ in range(min(len(blobs), 2 * self._connections)):
                running.append(threads.start(work, "layer"))
            while len(files) < len(blobs):
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                files[result[0]] = result[1]
        finally:  # also when a signal ends the wait
            self._end(running)
        return files

    def _end(self, running: Sequence[Thread]) -> None:
        self._stop.set()
        end = time.monotonic() + _GRACE
        for thread in running:
            thread.join(max(0.0, end - time.monotonic()))
        with suppress(Empty):
            while True:
                self._converters.get_nowait().close()

    def _file(self, blob: LayerBlob, form: Format, held: ExitStack) -> str:
        """The layer's file, made unless one of the stores has it."""
        if not self._known.own.has_layer(blob.diff_id):
            elsewhere = self._known.layer_file(blob.diff_id, form, held)
            if elsewhere:
                return elsewhere
        waiting = Waiting(self._progress, f"layer {digests.short(blob.digest)}")
        return self._place.add_layer(
            blob.diff_id, lambda target: self._make(blob, target, form), waiting, blob
        )

    def _make(self, blob: LayerBlob, target: str, form: Format) -> None:
        if self._source.make(self._image, blob, target):
            return
        room: int | None = 0
        while room is not None:
            # Whoever waits for room keeps no connection, which those that have it may need to go on.
            with self._windows.room(room), self._converter() as converter:
                room = self._converted(blob, target, form, converter, room)

    def _converted(
        self, blob: LayerBlob, target: str, form: Format, converter: Converter, room: int
    ) -> int | None:
        """Make the layer's file, with ``room`` for the stream's window.

        Gives the room that it takes, if that is more and not free: then nothing was made.
        """
        convert = converter.convert if blob.size > _SMALL else conversion.convert
        limits = conversion.Limits.of(self._settings, blob.size)
        lacking: int | None = None

        def use(chunks: Iterator[bytes]) -> None:
            nonlocal lacking
            head, whole = decompression.beginning(chunks)
            wanted = decompression.window(head)
            with self._windows.room_if_free(wanted - room) as free:
                lacking = None if free else wanted
                if free:
                    with self._shown(blob, whole) as shown:
                        convert(shown, blob.diff_id, target, form, limits)

        self._source.read(self._image, blob, use)
        return lacking

    @contextmanager
    def _converter(self) -> Iterator[Converter]:
        converter = self._converters.get()
        try:
            if self._stop.is_set():
                raise _Stopped
            yield converter
        finally:
            if self._stop.is_set():
                converter.close()  # ``run`` may have ended already
            self._converters.put(converter)

    @contextmanager
    def _shown(self, blob: LayerBlob, chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
        """``chunks``, shown as they come; they end with _Stopped once another transfer has failed."""
        name = digests.short(blob.digest)
        self._progress.started(name, blob.size)

        def shown() -> Iterator[bytes]:
            for chunk in chunks:
                if self._stop.is_set():
                    raise _Stopped
                self._progress.advanced(name, len(chunk))
                yield chunk

        try:
            yield shown()
        finally:
            self._progress.finished(name)


class Waiting:
    """Says that another process is at work on ``what``."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._what = what

    def __call__(self) -> None:
        self._progress.message(f"waiting for another process that imports {self._what}")


class _Stopped(Exception):
    """A transfer that ended because another failed."""
