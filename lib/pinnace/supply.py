"""From an image reference to a finished squashfs file in the store.

look up in the store ─► ask the registry ─► for each missing layer, in parallel: download,
check, decompress, check entries, squashfs, in one stream ─► assemble the image ─► record it
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager

from pinnace import digest as digests
from pinnace import policies
from pinnace.config import Settings
from pinnace.errors import RegistryError, StoreError
from pinnace.reference import Reference
from pinnace.store import Image, Store

TYPE_CHECKING = False  # typing itself costs milliseconds of every start
if TYPE_CHECKING:  # all of it imported when something must be pulled
    from collections.abc import Callable, Iterator
    from threading import Event
    from typing import Any

    from pinnace.layers import Format
    from pinnace.progress import Progress
    from pinnace.sources import ImageSource, LayerBlob, SourceImage
    from pinnace.store.build import Workspace
    from pinnace.store.collection import Jobs
    from pinnace.store.store import Catalogue


#: Seconds that other transfers get to stop in after one has failed, or after a signal.
_GRACE = 2.0
#: Compressed bytes up to which a layer is not worth a process of its own.
_SMALL = 4 << 20


def ensure(
    reference: Reference,
    *,
    store: Store,
    settings: Settings,
    hold: Callable[[Image], bool] = bool,
    jobs: Jobs | None = None,
    platform: str | None = None,
    progress: Callable[[], Progress] | None = None,
    refresh: bool = False,
    source: ImageSource | None = None,
) -> Image:
    """The image that ``reference`` means for ``platform`` (this machine's unless given), pulled if need be.

    ``hold`` is called with the image before anybody could remove it, and tells whether it is still
    there (see ``store.leases``). ``jobs`` asks Slurm, should the quota make a collection necessary.
    The setting ``pull`` (see ``policies``) says when the registry is asked; it always is if
    ``refresh`` is set. If the digest is as before nothing more is fetched. ``progress`` is called
    once a registry has to be asked, and closed at the end; nothing is said without it. Raises
    RegistryError, ImageError, StoreError or HostError; the store is sound in each case.
    """
    from pinnace.sources import platforms

    platform = platforms.parse(platform) if platform else platforms.host()
    known = catalogue(store, settings)
    if not refresh:
        image = known.lookup(reference, platform, policies.lifetime(settings))
        if image is not None and hold(image):
            return image
        if settings["pull"] == policies.NEVER:
            raise policies.not_cached(reference, platform, known)
    load_site_packages()
    from pinnace.credentials import dumps
    from pinnace.progress import Progress

    with (progress or Progress)() as display, dumps.forbidden():
        try:
            return Pull(known, settings, display, hold, source, jobs=jobs).run(reference, platform)
        except RegistryError as error:
            if refresh:
                raise policies.suggesting(error, reference) from None
            return policies.instead(error, reference, platform, known, settings, display, hold)


def catalogue(store: Catalogue, settings: Settings) -> Catalogue:
    """``store`` and the additional ones of the settings, to look things up in."""
    additional = settings["additional_stores"]
    if not additional or store.own is not store:
        return store
    from pinnace.store.stack import StackedStore

    return StackedStore(store.own, additional)


def describe(text: str, settings: Settings, platform: str | None = None) -> dict[str, Any]:
    """What is known of an image in the store or of a squashfs file, as data.

    Raises StoreError if the image is not in the store, ImageError if the file is none.
    """
    from dataclasses import asdict

    from pinnace import squashfs
    from pinnace.reference import is_path, parse

    if is_path(text):
        return {"path": text, **asdict(squashfs.check(text))}
    store = catalogue(Store(settings["store"]), settings)
    image = recorded(store, parse(text), platform)
    return {**asdict(image), "store": image.store}


def recorded(store: Catalogue, reference: Reference, platform: str | None = None) -> Image:
    """The image that ``reference`` meant last. Raises StoreError if it is not in the store."""
    from pinnace.sources import platforms

    platform = platforms.parse(platform) if platform else platforms.host()
    image = store.lookup(reference, platform, float("inf"))
    if image is None:
        raise StoreError(
            f"{reference} is not in the store",
            context=store.root,
            hint=f"`pinnace pull {reference}` gets it",
            identifier="not-in-store",
        )
    return image


class Pull:
    """One run of asking a source and making what is missing.

    ``source`` is the reference's registry unless given; ``origin`` says what else it is, in words, and
    ``what`` as the user wrote it.
    """

    def __init__(
        self, store: Catalogue, settings: Settings, progress: Progress, hold: Callable[[Image], bool],
        source: ImageSource | None = None, origin: str = "", what: str = "", jobs: Jobs | None = None,
    ) -> None:  # fmt: skip
        self._hold = hold
        self._jobs = jobs
        self._origin = origin
        self._what = what
        self._known = catalogue(store, settings)
        self._store = store.own
        self._settings = settings
        self._progress = progress
        self._source = source

    def run(self, reference: Reference, platform: str) -> Image:
        from pinnace.store.build import workspace
        from pinnace.store.images import Resolution

        source = self._source or registry_source(reference, self._settings, self._progress.message)
        known = self._known.resolution(reference, platform)
        present = self._known.image(known.digest) if known else None
        form = squash_format(self._settings)
        unchanged = known and present and source.current_digest(reference) == known.source
        if known and present and unchanged and self._hold(present):
            image, described = present, known.source
        else:
            resolved = source.resolve(reference, platform)
            described = resolved.source_digest
            image = self._made(resolved, source, form)
        with workspace(self._store, form) as place:
            now = time.time()
            place.record(
                reference, Resolution(image.digest, described, now, platform, str(reference), self._origin)
            )
        if self._settings["gc_quota"]:
            self._keep_quota()
        return image

    def _keep_quota(self) -> None:
        from pinnace.store import collection

        report = collection.keep_quota(self._store, self._settings, self._jobs, self._known)
        if report is not None and report.is_over:
            self._progress.message(report.complaint())

    def _made(self, resolved: SourceImage, source: ImageSource, form: Format) -> Image:
        """The image of ``resolved``, made unless it is there or another process makes it."""
        from pinnace import locks
        from pinnace.store.build import workspace

        what = self._what or f"docker image: {resolved.reference}"
        image = self._known.image(resolved.digest)
        if image is not None and self._hold(image):
            return image
        with workspace(self._store, form) as place:
            lock = self._store.lock_path("image", resolved.digest)
            with locks.held(lock, waiting=self._waiting(str(resolved.reference))):
                image = self._known.image(resolved.digest)
                if image is not None and self._hold(image):
                    return image
                self._progress.message(f"importing {what}")
                image = self._make(resolved, source, form, place)
                self._hold(image)  # while nobody else may remove it
        self._progress.message(f"imported {what}")
        return image

    def _make(self, resolved: SourceImage, source: ImageSource, form: Format, place: Workspace) -> Image:
        from pinnace.store.images import Origin

        blobs = {blob.diff_id: blob for blob in resolved.layers}
        image = Image(
            digest=resolved.digest,
            path="",
            config=resolved.config,
            platform=resolved.platform,
            size=0,
            layers=tuple(blob.diff_id for blob in resolved.layers),
            reference=str(resolved.reference),
            created_at=0.0,
            origin=Origin.here(self._origin or "registry", resolved.source_digest),
        )
        jobs = squash_format(self._settings, pipelines=1)
        with ExitStack() as held:
            files = self._layers(list(blobs.values()), resolved, source, form, place, held)
            return place.add_image(image, [files[layer] for layer in image.layers], jobs)

    def _layers(
        self,
        blobs: list[LayerBlob],
        resolved: SourceImage,
        source: ImageSource,
        form: Format,
        place: Workspace,
        held: ExitStack,
    ) -> dict[str, str]:
        """Files of all layers by diff ID; after the first failure the other transfers stop."""
        from contextlib import closing
        from queue import SimpleQueue
        from threading import Event, Thread

        from pinnace.layers import conversion
        from pinnace.layers.converter import Converter
        from pinnace.layers.windows import Windows

        windows = Windows()
        limits = conversion.Limits(self._settings["max_layer_size"])
        stop = Event()
        todo = list(reversed(blobs))
        done: SimpleQueue[Any] = SimpleQueue()

        def one(blob: LayerBlob, converter: Converter) -> str:
            def make(target: str) -> None:
                convert = converter.convert if blob.size > _SMALL else conversion.convert

                def read(chunks: Iterator[bytes]) -> None:
                    with self._shown(blob, chunks, stop) as shown, windows.room_for(shown) as ready:
                        convert(ready, blob.diff_id, target, form, limits)

                source.read(resolved, blob, read)

            if not self._store.has_layer(blob.diff_id):
                elsewhere = self._known.layer_file(blob.diff_id, form, held)
                if elsewhere:
                    return elsewhere
            waiting = self._waiting(f"layer {digests.short(blob.digest)}")
            return place.add_layer(blob.diff_id, make, waiting, blob)

        def work() -> None:
            try:
                with closing(Converter()) as converter:
                    while todo and not stop.is_set():
                        blob = todo.pop()
                        done.put((blob.diff_id, one(blob, converter)))
            except BaseException as error:
                done.put(error)

        count = min(len(blobs), max(1, self._settings["connections"]))
        # Daemons: one that waits for a registry that says nothing must not keep the process.
        threads = [Thread(target=work, name="layer", daemon=True) for _ in range(count)]
        files: dict[str, str] = {}
        try:
            for thread in threads:
                thread.start()
            while len(files) < len(blobs):
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                files[result[0]] = result[1]
        finally:  # also when a signal ends the wait
            stop.set()
            end = time.monotonic() + _GRACE
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
        return files

    @contextmanager
    def _shown(self, blob: LayerBlob, chunks: Iterator[bytes], stop: Event) -> Iterator[Iterator[bytes]]:
        """``chunks``, shown as they come; they end with _Stopped once another transfer has failed."""
        name = digests.short(blob.digest)
        self._progress.started(name, blob.size)

        def shown() -> Iterator[bytes]:
            for chunk in chunks:
                if stop.is_set():
                    raise _Stopped
                self._progress.advanced(name, len(chunk))
                yield chunk

        try:
            yield shown()
        finally:
            self._progress.finished(name)

    def _waiting(self, what: str) -> Waiting:
        return Waiting(self._progress, what)


def load_site_packages() -> None:
    """The launch path starts Python with -S, for speed; what pulls needs third-party packages."""
    import sys

    if sys.flags.no_site:
        import site

        site.main()


class Waiting:
    """Says that another process is at work on ``what``."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._what = what

    def __call__(self) -> None:
        self._progress.message(f"waiting for another process that imports {self._what}")


class _Stopped(Exception):
    """A transfer that ended because another failed."""


def registry_source(
    reference: Reference, settings: Settings, warn: Callable[[str], None] | None = None
) -> ImageSource:
    """The source that the registry of ``reference`` is, reached as ``settings`` say.

    ``warn`` takes what a user should know about his credentials and his mirrors.
    """
    from pinnace.credentials import keyrings
    from pinnace.registry import connect
    from pinnace.sources.registry import RegistrySource

    return RegistrySource(connect(reference.registry, settings, keyrings(reference, settings, warn), warn))


def squash_format(settings: Settings, pipelines: int | None = None) -> Format:
    """How files are written; the processors are shared by as many streams as there are connections."""
    import os

    from pinnace.layers import Format

    processors = len(os.sched_getaffinity(0))
    streams = pipelines or max(1, settings["connections"])
    return Format(
        compressor=settings["compressor"],
        level=settings["compression_level"],
        block_size=settings["block_size"],
        jobs=max(1, processors // streams),
    )
