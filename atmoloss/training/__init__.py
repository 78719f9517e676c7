"""Training: configuration, loop, evaluation and export (extra ``train``)."""
