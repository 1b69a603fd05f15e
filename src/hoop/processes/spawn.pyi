SETUP: int
CHDIR: int
EXEC: int
CAN_SPAWN: bool

def start(
    programs: list[bytes],
    argv: list[bytes],
    env: list[bytes] | None,
    cwd: bytes | None,
    stdio: tuple[int, int, int],
    pass_fds: list[int],
    close_fds: bool,
    restore_signals: bool,
    new_session: bool,
    process_group: int,
    umask: int,
    uid: int,
    gid: int,
    groups: list[int] | None,
    copies: bool,
) -> tuple[int, int]: ...
def outcome(reader: int) -> tuple[int, int] | None: ...
def count_launches() -> int: ...
