from weft._core.handle cimport Runnable
from weft._core.loopcore cimport LoopCore
from weft._native.incontext cimport InContext


cdef class FlowControl(Runnable):
    cdef readonly object _context
    cdef readonly object _high
    cdef readonly LoopCore _loop
    cdef readonly object _low
    cdef readonly object _protocol
    cdef readonly bint _protocol_paused
    cdef readonly Py_ssize_t _size
    cdef readonly object _transport

    cpdef _set_protocol(self, object protocol)
    cpdef set_write_buffer_limits(self, object high, object low)
    cdef _maybe_pause_protocol(self)
    cdef _maybe_resume_protocol(self)
    cdef _report(self, str message, object exc)
