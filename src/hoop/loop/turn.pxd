from hoop._c.python cimport Ref
from hoop._c.linux cimport hoop_now_ns
from hoop.drivers.ready cimport Runnable
from hoop.loop.calls cimport LoopCalls

cdef enum:
    # While the loop is busy it asks the driver in the turn `look_at`. It asks earlier after this much work
    # (each turn counts 3, each runnable 1), or if the coarse clock has moved on, which every fourth turn checks.
    # A driver that announces its events is asked when it does.
    LOOK_AFTER = 256
    # After this many looks in vain, one in each turn, the loop doubles the turns between two looks each time.
    LOOKS_IN_A_ROW = 8
    TURNS_BETWEEN_LOOKS = 64

cdef class Loop(LoopCalls):
    cdef unsigned long unpolled         # how much ran since the driver was last asked
    cdef long long tick                 # the coarse clock when the driver was last asked
    cdef unsigned long turns_between    # the last look and the next
    cdef unsigned int in_vain           # looks that found nothing, one after the other
    cdef bint turning                   # inside a turn, whoever takes it
    cdef bint deaf                      # no signal would end a sleep: see _watch_signals()
    cdef bint follows_clock, follows_soon   # time() or call_soon() is not ours on this one loop
    cdef unsigned int class_version     # the class when it was last asked about these
    cdef int see_class(self) except -1
    cdef int announce_tasks(self) except -1
    cdef int run_once(self) except -1
    cdef int begin(self) except -1
    cdef int replace_driver(self, int error) except -1
    cdef int sleep(self) except -1
    cdef int hear(self) except -1
    cdef int hear_early(self) except -1
    cdef inline bint worth_a_look(self) noexcept:
        if self.driver.announces:
            # A look without news takes no system call, and notes the time: see LoopBase.stamp.
            return self.driver.pending or self.driver.bell[0] != 0 or self.unpolled >= LOOK_AFTER
        if self.unpolled >= LOOK_AFTER:
            return True
        if self.turns < self.look_at and self.turns & 3:
            return False
        # The rest of a batch needs no event from the driver, and soon ends.
        return self.tail - self.head != 1 or not (<Runnable>self.ring[self.head & self.mask]).is_delivery
    cdef int look(self) except -1
    cdef int send_held(self) except -1
    # The driver is about to be asked. Note the time, and how long no event could be seen.
    cdef inline long long visit(self) noexcept:
        cdef long long now = hoop_now_ns()
        self.visits.add(now - self.visited)
        self.visited = self.stamp = now
        self.visited_in = self.turns
        return now
    cdef int plan_look(self, bint news) noexcept
    cdef int queue_due_timers(self) except -1
    cdef int run_ready(self) except -1
    cdef int run_ready_watched(self) except -1
    cdef int note_end(self, Ref r, long long began, long long now) except -1
    cdef int recover(self, object exc) except -1
    cdef int report(self, object context) except -1
    cdef int end_running(self) except -1
    cdef int take_turns(self, bint only_one) except -1
