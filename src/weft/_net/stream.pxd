cimport cython

from weft._core.handle cimport Flushable, Runnable
from weft._io.ops cimport Ops
from weft._io.spi cimport Poller
from weft._native.incontext cimport InContext
from weft._net.outgoing cimport Outgoing

cdef Py_ssize_t _FLUSH_CHUNKS, _BULK_BYTES, _BULK_FIRST_BYTES, _BULK_MOST_BYTES


# Final, so that it calls itself directly. Cython takes what a final class overrides from its base: not repeated here.
@cython.final
cdef class Stream(Outgoing):
    cdef bint _barred
    cdef bint _buffered
    cdef Py_ssize_t _bulk_bytes
    cdef readonly bint _closing
    cdef Py_ssize_t _conn_lost
    cdef readonly object _context
    cdef bint _eof
    cdef readonly int _fd
    cdef object _file_waiter
    cdef Py_ssize_t _first
    cdef Py_ssize_t _flush_above
    cdef readonly object _high
    cdef readonly object _low
    cdef Py_ssize_t _offset
    cdef Ops _ops
    cdef readonly bint _paused
    cdef Poller _poller
    cdef readonly object _protocol
    cdef readonly bint _protocol_paused
    cdef bint _read_eof
    cdef readonly object _server
    cdef readonly object _sock
    cdef readonly object _transport
    cdef readonly bint _watching
    cdef object _write_runnable
    cdef readonly bint _writing

    cpdef _set_protocol(self, object protocol)
    cpdef _start_reading(self)
    cdef _stop_reading(self)
    @cython.locals(size=Py_ssize_t)
    cdef _read(self)
    cdef _expect_more_than(self, Py_ssize_t size)
    @cython.locals(count=Py_ssize_t)
    cdef _read_into_protocol(self)
    cdef _received_eof(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef write(self, object data)
    cpdef writelines(self, object list_of_data)
    cdef _refuse(self, str method)
    cdef _judge_buffer(self)
    cdef _count_dropped_write(self)
    @cython.locals(count=Py_ssize_t)
    cdef _flush_now(self)
    @cython.locals(count=Py_ssize_t)
    cdef _write_ready(self)
    @cython.locals(chunks=list, first=Py_ssize_t)
    cdef _taken(self, Py_ssize_t count)
    cdef _drop_chunks(self)
    cdef _stop_writing(self)
    cpdef write_eof(self)
    cdef _shutdown_writing(self)
    cpdef _begin_sendfile(self)
    cpdef _sendfile_waits(self)
    cpdef _end_sendfile(self)
    cdef _fail_sendfile(self, object exc)
    cpdef Py_ssize_t get_write_buffer_size(self) except -1
    cpdef set_write_buffer_limits(self, object high, object low)
    cdef _maybe_pause_protocol(self)
    cdef _tell_flow(self, str method)
    @cython.locals(above=Flushable)
    cdef _settle(self)
    cpdef close(self)
    cpdef abort(self)
    cdef _protocol_failed(self, object exc, str method)
    cdef _fatal_error(self, object exc, str message)
    cpdef _force_close(self, object exc)
    cdef _lose(self, object exc)
    cdef _schedule_lost(self, object exc)
    cpdef _call_connection_lost(self, object exc)
    cpdef _release(self)


cdef class WriteReady(Runnable):
    cdef Stream stream

    cdef _run(self)
