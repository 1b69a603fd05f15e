from typing import final

@final
class Habit: ...
