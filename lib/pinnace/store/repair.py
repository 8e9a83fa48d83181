"""Making a store sound again: what is damaged is built anew from what is good, or removed.

A removed layer or image is fetched by the next pull that wants it. Each object is looked at again
under its lock, so that nothing good is touched; one that is built anew takes the old one's place by
a rename, so that a container which runs from that keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from pinnace import digest as digests
from pinnace import locks
from pinnace.errors import PinnaceError
from pinnace.layers import Format
from pinnace.store import trees, verification
from pinnace.store.build import Workspace, form_of, workspace
from pinnace.store.directories import IMAGES, LAYERS, REFERENCES, UNPACKED, Opened
from pinnace.store.store import Catalogue
from pinnace.store.verification import Finding


@dataclass(frozen=True)
class Repair:
    """What was done about a finding, in words; ``done`` is False if it could not be."""

    finding: Finding
    action: str
    done: bool = True


def repair(known: Catalogue, form: Format) -> Iterator[Repair]:
    """Repair the store that ``known`` writes to.

    ``form`` counts for a store that does not say itself how it is written. Raises StoreError if the
    store cannot be written at all.
    """
    store = known.own
    if not os.path.isdir(store.root):
        return
    with Opened(store):
        pass  # no link leads out of it
    form = form_of(store, form)
    for finding in list(verification.store_description(store)):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(store.root, finding.name))
        yield Repair(finding, "written anew")
    unfinished = [finding for finding in verification.leftovers(store) if finding.name.startswith("tmp/")]
    with workspace(store, form) as place:  # which removes what was unfinished
        for finding in unfinished:
            yield Repair(finding, "removed")
        for finding in verification.verify(known):
            mend = _MENDERS.get(finding.kind)
            if mend is None:
                continue
            try:
                action = mend(known, finding, place, form)
            except PinnaceError as error:
                yield Repair(finding, f"left as it is: {error}", done=False)
            except OSError as error:
                yield Repair(finding, f"left as it is: {error.strerror}", done=False)
            else:
                if action:
                    yield Repair(finding, action)


# Each gives what was done, or None if there was nothing to do after all.


def _mend_layer(known: Catalogue, finding: Finding, place: Workspace, form: Format) -> str | None:
    store = known.own
    with locks.held(store.lock_path("layer", finding.name)):
        if verification.layer_problem(store, finding.name) is None:
            return None
        store.remove_layer(finding.name)
    return "removed: the next pull that wants it fetches it"


def _mend_image(known: Catalogue, finding: Finding, place: Workspace, form: Format) -> str | None:
    if not finding.damage:
        return None
    store = known.own
    with locks.held(store.lock_path("image", finding.name)):
        image = store.recorded_image(finding.name)
        sound = verification.sound_layers(store, image) if image else ()
        if verification.image_problem(known, finding.name, sound) is None:
            return None
        if image is not None:
            with ExitStack() as held:
                files = [_good_layer(known, layer, place, form, held) for layer in image.layers]
                if all(files):
                    place.add_image(image, [file for file in files if file], form)
                    return "built anew from its layers"
        store.remove_image(finding.name)
    return "removed: the next pull fetches it"


def _good_layer(
    known: Catalogue, diff_id: str, place: Workspace, form: Format, held: ExitStack
) -> str | None:
    # Damaged layers of this store were removed before.
    return place.layer(diff_id) or known.layer_file(diff_id, form, held)


def _mend_reference(known: Catalogue, finding: Finding, place: Workspace, form: Format) -> str | None:
    store = known.own
    with locks.held(store.references_lock), Opened(store) as opened:
        if verification.reference_problem(known, os.path.join(store.root, finding.name)) is None:
            return None
        opened.remove_resolution(os.path.relpath(finding.name, REFERENCES))
    return "removed"


def _mend_leftover(known: Catalogue, finding: Finding, place: Workspace, form: Format) -> str | None:
    store = known.own
    part, name = os.path.split(finding.name)
    if part == UNPACKED:
        lock = store.lock_path("tree", digests.PREFIX + name.partition("-")[0])
        with locks.held(lock), Opened(store) as opened:
            trees.remove(opened, store.root, name)
        return "removed: it is unpacked again when it is wanted"
    if part not in (IMAGES, LAYERS):
        return None  # a workspace
    stem, suffix = os.path.splitext(name)
    kind = "image" if part == IMAGES else "layer"
    with locks.held(store.lock_path(kind, digests.PREFIX + stem)), Opened(store) as opened:
        other = {".sqsh": ".json", ".json": ".sqsh"}[suffix]
        if stem + other in opened.files(part) or not opened.remove(part, name):
            return None
    return "removed"


_MENDERS: dict[str, Callable[[Catalogue, Finding, Workspace, Format], str | None]] = {
    verification.LAYER: _mend_layer,
    verification.IMAGE: _mend_image,
    verification.REFERENCE: _mend_reference,
    verification.LEFTOVER: _mend_leftover,
}
