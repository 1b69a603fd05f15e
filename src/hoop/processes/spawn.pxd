# No other module of the core calls this one.
