"""The functions of os.path that wait for disks, as coroutines. The names are those of aiofiles.ospath."""

from __future__ import annotations

import os.path

from hoop.files.engine import wrap

abspath = wrap(os.path.abspath)
exists = wrap(os.path.exists)
getatime = wrap(os.path.getatime)
getctime = wrap(os.path.getctime)
getmtime = wrap(os.path.getmtime)
getsize = wrap(os.path.getsize)
isdir = wrap(os.path.isdir)
isfile = wrap(os.path.isfile)
islink = wrap(os.path.islink)
ismount = wrap(os.path.ismount)
samefile = wrap(os.path.samefile)
sameopenfile = wrap(os.path.sameopenfile)
