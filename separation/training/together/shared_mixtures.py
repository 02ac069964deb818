"""Training mixtures that several runs take."""

import threading
from collections import OrderedDict

from separation.data.mixtures import Batch, Mixture, MixtureList, Span

KEPT_BATCHES = 4
"""More than a reader can be ahead of another: each prepares one batch while it takes a step."""


class SharedMixtures(MixtureList):
    """A list of mixtures of which several readers take the same excerpts at about the same time: each is mixed once."""

    def __init__(self, mixtures: MixtureList) -> None:
        super().__init__(mixtures.store, mixtures.split, mixtures.mixing)
        self._mixtures = mixtures
        self._made: OrderedDict[tuple[range, int, int], Batch] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._mixtures)

    def draw(self, index: int, epoch: int = 0) -> Mixture:
        """As the list's own."""
        return self._mixtures.draw(index, epoch)

    def spans(self, mixture: Mixture, num_samples: int | None = None) -> list[Span]:
        """As the list's own."""
        return self._mixtures.spans(mixture, num_samples)

    def excerpts(self, indices: range, num_samples: int, epoch: int = 0) -> Batch:
        """As the list's own; the same object for each reader."""
        key = (indices, num_samples, epoch)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._mixtures.excerpts(indices, num_samples, epoch)
                if len(self._made) > KEPT_BATCHES:
                    self._made.popitem(last=False)
            return self._made[key]
