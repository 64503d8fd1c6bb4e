cimport cython

from weft._core.handle cimport Runnable
from weft._io.ops cimport Ops
from weft._io.spi cimport Poller
from weft._native.incontext cimport InContext
from weft._net.flow cimport FlowControl

cdef int _READ_BATCH
cdef int _HEADER_BYTES
cdef bint _SENDS_EMPTY


cdef class Datagrams(FlowControl):
    cdef readonly object _address
    cdef readonly bint _closing
    cdef Py_ssize_t _conn_lost
    cdef bint _connected
    cdef int _family
    cdef readonly int _fd
    cdef Ops _ops
    cdef Poller _poller
    cdef object _queue
    cdef readonly object _sock
    cdef readonly bint _watching
    cdef object _writable
    cdef readonly bint _writing

    cpdef _start_reading(self)
    cdef _stop_reading(self)
    @cython.locals(_=int, received=tuple)
    cdef _run(self)
    cdef _tell_error(self, object exc)
    cdef _report_callback(self, str method, object exc)
    @cython.locals(chunk=bytes)
    cpdef sendto(self, object data, object addr)
    cdef bint _send(self, object data, object addr) except -1
    cdef _start_writing(self)
    cdef _stop_writing(self)
    @cython.locals(pair=tuple)
    cdef _write_ready(self)
    cdef _sent(self, bytes chunk)
    cpdef close(self)
    cpdef abort(self)
    cdef _fatal_error(self, object exc, str message)
    cpdef _force_close(self, object exc)
    cdef _schedule_lost(self, object exc)
    cpdef _call_connection_lost(self, object exc)
    cpdef _release(self)


cdef class DatagramsWritable(Runnable):
    cdef Datagrams datagrams

    cdef _run(self)
