# No other module of the core calls this one: hoop/__init__.py does, for each public name.
