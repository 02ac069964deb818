"""From recordings to batches of mixtures: corpora, the sample store, mixture lists."""
