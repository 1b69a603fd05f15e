# No other module of the core calls this one: the package imports it first.
