class Driver:
    name: str
