# No other compiled module calls this one. The package imports it first.
