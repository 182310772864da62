"""Images with their labels and carried columns, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress, islice, repeat
from typing import Any

from faceaudit.images.refs import ImageRef, stamps_of
from faceaudit.images.source import Batch, ImageSource
from faceaudit.labels import Labels
from faceaudit.models.bundle import Output
from faceaudit.ordered import in_chunks
from faceaudit.pipeline.carried import Carried
from faceaudit.pipeline.digest import ImageDigest, digest_of
from faceaudit.pipeline.extra import join_extra
from faceaudit.pipeline.known import Listed
from faceaudit.pipeline.purged import Purged
from faceaudit.storage import as_path, identity, is_remote

AT_ONCE = 1024
"""Images that are listed at a time."""


@dataclass(frozen=True)
class Chunk:
    """Some images in order, with their labels and carried columns."""

    images: Sequence[ImageRef]
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    digests: Sequence[ImageDigest] = ()

    def __len__(self) -> int:
        return len(self.images)

    def halves(self) -> tuple[Chunk, Chunk]:
        """The first and the second half of the images."""
        middle = len(self) // 2
        return self._part(slice(0, middle)), self._part(slice(middle, None))

    def _part(self, of: slice) -> Chunk:
        extra = {name: values[of] for name, values in self.extra.items()}
        return Chunk(self.images[of], extra, self.digests[of])


class Inputs:
    """The images of a run with what stands beside them; walked anew each time they are asked for.

    Nothing is held but some images at a time and the label file.
    """

    def __init__(
        self,
        source: ImageSource,
        labels: Labels | None,
        outputs: Sequence[Output],
        age_bins: tuple[int, ...],
        limit: int | None = None,
        purged: Purged | None = None,
        said: tuple[str, ...] = (),
    ) -> None:
        """Find the columns of what stands beside the images.

        Args:
            source: The images.
            labels: Their labels.
            outputs: What the model predicts.
            age_bins: Lower bounds of the age groups, in years.
            limit: So many images are taken.
            purged: Images that are passed over.
            said: Notes on the choice of the labels.

        Raises:
            InputError: If an annotated column that comes with the images is of a type that is none.
        """
        self.source = source
        self.labels = labels
        self.limit = limit
        self._purged = purged or Purged()
        self._said = said
        self._carried = Carried(source, labels)
        self._join = partial(join_extra, outputs=outputs, age_bins=age_bins)
        of_labels = None if labels is None else labels.columns
        self.extra = self._join(of_labels, self._carried.of(source.carried_schema))
        """The columns of labels and carried values, without rows."""
        self._place = source.folder or as_path(source.source)
        self._was_there = self._seen()
        self._notes: tuple[str, ...] | None = None

    @property
    def columns(self) -> list[str]:
        """The names of labels and carried columns."""
        return self.extra.columns

    def notes(self) -> tuple[str, ...]:
        """What the labels of all images lack, once all were walked; later walks add nothing."""
        if self._notes is None:
            of_labels = () if self.labels is None else self.labels.notes()
            self._notes = (*self._said, *self._carried.notes(), *of_labels)
        return self._notes

    def names(self) -> Iterator[str]:
        """The names of all images in order."""
        names = (ref.name for ref in self.source)
        return islice((name for name in names if not self._purged.has(name)), self.limit)

    def are_gone(self) -> bool:
        """Whether the folder or file that held the images can be seen no more.

        Also where another has its name, such as the folder that a volume was mounted on.
        """
        return self._was_there is not None and self._seen() != self._was_there

    def _seen(self) -> object | None:
        """What is seen of the place of the images; None where it is not there."""
        if not is_remote(self._place):
            return identity(self._place)
        try:
            return self._place.exists() or None
        except OSError:
            return None

    def listed(self) -> Iterator[Listed]:
        """Every image with its digest."""
        for rows in in_chunks(self._rows(), AT_ONCE):
            refs = [ref for ref, _ in rows]
            yield from map(Listed, refs, _digests(rows))
        self.notes()

    def chunks(self, size: int, wanted: Callable[[str], bool] | None = None) -> Iterator[Chunk]:
        """Chunks of images in order.

        Args:
            size: Images per chunk; all but the last have as many.
            wanted: Whether an image of this name is taken; None takes all.
        """
        rows = (row for row in self._rows() if wanted is None or wanted(row[0].name))
        while taken := list(islice(rows, size)):
            refs = [ref for ref, _ in taken]
            values = [list(column) for column in zip(*(row for _, row in taken), strict=True)]
            yield Chunk(refs, dict(zip(self.columns, values, strict=True)), _digests(taken))

    def _rows(self) -> Iterator[tuple[ImageRef, tuple[Any, ...]]]:
        """Images and the values beside them, one by one."""
        left = self.limit
        for found in self.source.batches(AT_ONCE):
            batch = self._without_purged(found)
            refs = batch.refs[:left]
            of_labels = None if self.labels is None else self.labels.of([ref.name for ref in refs])
            carried = None if batch.carried is None else batch.carried[:left]
            frame = self._join(of_labels, self._carried.of(carried))
            yield from zip(refs, frame.iter_rows() if frame.width else repeat(()), strict=False)
            left = None if left is None else left - len(refs)
            if left == 0:
                return

    def _without_purged(self, batch: Batch) -> Batch:
        if not len(self._purged):
            return batch
        kept = [not self._purged.has(ref.name) for ref in batch.refs]
        refs = list(compress(batch.refs, kept))
        return Batch(refs, None if batch.carried is None else batch.carried.filter(kept))


def _digests(rows: Sequence[tuple[ImageRef, tuple[Any, ...]]]) -> list[ImageDigest]:
    """The digests of images and the values beside them."""
    stamps = stamps_of([ref for ref, _ in rows])
    return [digest_of(ref.name, stamp, row) for (ref, row), stamp in zip(rows, stamps, strict=True)]
