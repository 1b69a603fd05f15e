# No other compiled module calls this one.
