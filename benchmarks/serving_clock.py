"""A wall clock that can be stepped for one process: three functions of the C library, put before its own.

libfaketime can do that and far more: it also stands before semaphores, sleeps and condition variables, and for that
a service under it stalls for seconds. This moves what tells the wall clock's time and nothing else. It needs a C
compiler, as `cc`.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

from serving_breakable import AbsentError

_OFFSET: Final = struct.Struct("q")  # seconds, at the start of the file
_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const volatile long long *offset;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    int file = open(getenv("STEPPED_CLOCK"), O_RDONLY);
    if (file < 0) abort();
    void *mapped = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    offset = mapped;
    real = dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec told;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &told)) return -1;
    now->tv_sec = told.tv_sec;
    now->tv_usec = told.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec told;
    clock_gettime(CLOCK_REALTIME, &told);
    if (now) *now = told.tv_sec;
    return told.tv_sec;
}
"""


class Clock:
    """The wall clock of a process that is started with `environment`.

    Raises:
        AbsentError: there is no C compiler.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("cc") is None:
            raise AbsentError("no C compiler (cc)")
        source, library, told = folder / "clock.c", folder / "clock.so", folder / "clock"
        source.write_text(_SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
        told.write_bytes(_OFFSET.pack(0))
        with told.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), _OFFSET.size)
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(told)}

    def step(self, seconds: int) -> None:
        """From now on it is so many seconds off."""
        self._offset[:] = _OFFSET.pack(seconds)
