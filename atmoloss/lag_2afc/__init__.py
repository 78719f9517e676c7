"""How well a distance orders fields by their lag: the lag 2AFC (two-alternative forced choice) and its baselines.

Of two fields that follow a third one, the earlier should be the nearer one. :mod:`~atmoloss.lag_2afc.triples` counts
how often it is, :mod:`~atmoloss.lag_2afc.baselines` has the distances that a learned one must beat, and
:mod:`~atmoloss.lag_2afc.evaluate` does both for weights on held-out data.
"""
