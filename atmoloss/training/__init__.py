"""Training: configuration, loop, evaluation and weights folders (extra ``train``)."""
