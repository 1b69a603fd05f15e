from hoop.drivers.op cimport Op
from hoop.loop.turn cimport Loop
from hoop.sim.driver cimport SimDriver
from hoop.watching.readiness cimport SocketSlot

cdef Op receiver(SimDriver driver, int fd)
cdef SocketSlot waited_for(SimDriver driver, int fd)
