"""One pull: a source is asked, what is missing is made and recorded.

ask the source ─► the layers, side by side (transfers) ─► assemble the image ─► record it
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pinnace import locks
from pinnace.config import Settings
from pinnace.layers import Format
from pinnace.progress import Progress
from pinnace.reference import Reference
from pinnace.sources import ImageSource, SourceImage
from pinnace.store import Image
from pinnace.store.build import Workspace, workspace
from pinnace.store.images import Origin, Resolution
from pinnace.store.store import Catalogue
from pinnace.transfers import Transfers, Waiting

if TYPE_CHECKING:
    from pinnace.store.retention import Jobs


class Pull:
    """One run of asking a source and making what is missing.

    ``source`` is the reference's registry unless given; ``origin`` says what else it is, in words, and
    ``what`` as the user wrote it.
    """

    def __init__(
        self, known: Catalogue, settings: Settings, progress: Progress, hold: Callable[[Image], bool],
        source: ImageSource | None = None, origin: str = "", what: str = "", jobs: Jobs | None = None,
    ) -> None:  # fmt: skip
        self._hold = hold
        self._jobs = jobs
        self._origin = origin
        self._what = what
        self._known = known
        self._store = known.own
        self._settings = settings
        self._progress = progress
        self._source = source

    def run(self, reference: Reference, platform: str) -> Image:
        source = self._source or self._registry(reference)
        known = self._known.resolution(reference, platform)
        present = self._known.image(known.digest) if known else None
        form = Format.of(self._settings)
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

    def _registry(self, reference: Reference) -> ImageSource:
        # Only here: what comes from a file needs no requests, which take longer than a small layer.
        from pinnace.sources.registry import RegistrySource

        return RegistrySource.of(reference, self._settings, self._progress.message)

    def _keep_quota(self) -> None:
        from pinnace.store import collection

        report = collection.keep_quota(self._store, self._settings, self._jobs, self._known)
        if report is not None and report.is_over:
            self._progress.message(report.complaint())

    def _made(self, resolved: SourceImage, source: ImageSource, form: Format) -> Image:
        """The image of ``resolved``, made unless it is there or another process makes it."""
        what = self._what or f"docker image: {resolved.reference}"
        image = self._known.image(resolved.digest)
        if image is not None and self._hold(image):
            return image
        with workspace(self._store, form) as place:
            lock = self._store.lock_path("image", resolved.digest)
            with locks.held(lock, waiting=Waiting(self._progress, str(resolved.reference))):
                image = self._known.image(resolved.digest)
                if image is not None and self._hold(image):
                    return image
                self._progress.message(f"importing {what}")
                image = self._make(resolved, source, form, place)
                self._hold(image)  # while nobody else may remove it
        self._progress.message(f"imported {what}")
        return image

    def _make(self, resolved: SourceImage, source: ImageSource, form: Format, place: Workspace) -> Image:
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
        jobs = Format.of(self._settings, streams=1)
        with ExitStack() as held:
            transfers = Transfers(source, resolved, self._known, place, self._settings, self._progress)
            files = transfers.run(form, held)
            return place.add_image(image, [files[layer] for layer in image.layers], jobs)
