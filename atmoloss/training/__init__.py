"""Training: configuration, loop, and the weights folders that come of it (extra ``train``)."""
