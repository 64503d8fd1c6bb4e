cimport cython

from weft._core.handle cimport Runnable
from weft._io.ops cimport Ops
from weft._io.spi cimport Poller
from weft._native.incontext cimport InContext
from weft._net.flow cimport FlowControl


cdef class ReadPipe(FlowControl):
    cdef readonly bint _closing
    cdef readonly int _fd
    cdef bint _lost
    cdef Ops _ops
    cdef readonly bint _paused
    cdef public object _pipe
    cdef Poller _poller
    cdef readonly bint _watching

    cpdef _start_reading(self)
    cdef _stop_reading(self)
    cdef _run(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef close(self)
    cdef _fatal_error(self, object exc, str message)
    cdef _end(self, object exc)
    cdef _schedule_lost(self, object exc)
    cpdef _call_connection_lost(self, object exc)
    cpdef _release(self)


cdef class WritePipe(FlowControl):
    cdef bytearray _buffer
    cdef readonly bint _closing
    cdef Py_ssize_t _conn_lost
    cdef readonly int _fd
    cdef bint _lost
    cdef Ops _ops
    cdef public object _pipe
    cdef Poller _poller
    cdef bint _watching
    cdef object _writable
    cdef readonly bint _writing

    cpdef _watch_reader(self)
    cdef _run(self)
    @cython.locals(chunk=bytes, size=Py_ssize_t, count=Py_ssize_t)
    cpdef write(self, object data)
    cdef _start_writing(self)
    @cython.locals(count=Py_ssize_t)
    cdef _write_ready(self)
    cdef _stop_writing(self)
    cdef _stop_watching(self)
    cdef _drop_buffer(self)
    cpdef write_eof(self)
    cpdef close(self)
    cpdef abort(self)
    cdef _fatal_error(self, object exc, str message)
    cpdef _force_close(self, object exc)
    cdef _schedule_lost(self, object exc)
    cpdef _call_connection_lost(self, object exc)
    cpdef _release(self)


cdef class Writable(Runnable):
    cdef WritePipe pipe

    cdef _run(self)
