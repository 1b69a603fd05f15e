INT_MAX: int
INT_MIN: int
LONG_MAX: int
UINT_MAX: int
