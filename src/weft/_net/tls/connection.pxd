cimport cython

from weft._core.handle cimport Flushable
from weft._core.loopcore cimport LoopCore
from weft._net.stream cimport Stream
from weft._net.tls.record cimport RecordLayer

cdef int _UNWRAPPED, _HANDSHAKE, _WRAPPED, _FLUSHING, _SHUTDOWN
cdef int _APP_INIT, _APP_MADE, _APP_EOF, _APP_LOST
cdef Py_ssize_t _FLUSH_BYTES, _RECORD_BYTES


cdef class TLSConnection(Flushable):
    cdef int _app
    cdef readonly bint _app_reading_paused
    cdef bint _buffered
    cdef list _chunks
    cdef Py_ssize_t _conn_lost
    cdef public object _context
    cdef object _end_error
    cdef bint _eof
    cdef public object _face
    cdef bint _forgotten
    cdef object _handshake_timeout_s
    cdef readonly bint _handshaken
    cdef bint _in_dirty
    cdef readonly LoopCore _loop
    cdef readonly object _peercert
    cdef readonly object _protocol
    cdef readonly object _read_high
    cdef readonly object _read_low
    cdef bint _reading
    cdef readonly RecordLayer _records
    cdef bint _rest_waits
    cdef object _shutdown_timeout_s
    cdef Py_ssize_t _size
    cdef readonly object _sslcontext
    cdef int _state
    cdef Stream _stream
    cdef object _timer
    cdef readonly object _transport
    cdef bint _transport_full
    cdef bint _transport_paused
    cdef object _waiter
    cdef readonly object _write_high
    cdef readonly object _write_low
    cdef readonly bint _writing_paused

    cpdef _set_protocol(self, object protocol)
    cpdef connection_made(self, object transport)
    cpdef connection_lost(self, object exc)
    cpdef _forget(self)
    @cython.locals(state=int)
    cpdef data_received(self, object data)
    @cython.locals(state=int)
    cpdef eof_received(self)
    cpdef pause_writing(self)
    cpdef resume_writing(self)
    cpdef _check_handshake_timeout(self)
    @cython.locals(done=bint)
    cdef _shake_hands(self)
    cdef _handshake_failed(self, object exc)
    cdef _handshake_done(self)
    cdef _wake_waiter(self, object exc)
    cdef _cancel_timer(self)
    @cython.locals(reading=bint, data=bytes)
    cpdef _read(self)
    @cython.locals(size=Py_ssize_t, count=Py_ssize_t)
    cdef _read_into_protocol(self)
    cdef _tell_eof(self)
    cpdef _pause_reading(self)
    cpdef _resume_reading(self)
    @cython.locals(state=int)
    cpdef _go_on_reading(self)
    cdef _control_transport_reading(self)
    cpdef _set_read_limits(self, object high, object low)
    cpdef write(self, object data)
    cpdef writelines(self, object list_of_data)
    cpdef _hold(self, bytes chunk)
    cdef _judge_buffer(self)
    cdef _count_dropped_write(self)
    cdef _flush(self)
    cdef _encrypt_guarded(self)
    @cython.locals(chunks=list, data=bytes, sent=Py_ssize_t)
    cdef _encrypt(self)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t, count=Py_ssize_t, records=RecordLayer, ready=list)
    cdef Py_ssize_t _encrypt_many(self, bytes data) except -1
    @cython.locals(data=bytes)
    cdef _send_records(self)
    cdef _drop_chunks(self)
    cpdef _buffer_size(self)
    cpdef _set_write_limits(self, object high, object low)
    @cython.locals(size=Py_ssize_t)
    cdef _control_writing(self, Py_ssize_t outgoing_bytes)
    cdef _tell_flow(self, str method)
    @cython.locals(above=Flushable)
    cdef _flush_above(self)
    cpdef _start_shutdown(self)
    cdef _mark_closed(self)
    cdef _bound_shutdown(self)
    cpdef _check_shutdown_timeout(self)
    cdef _finish_reading(self)
    cdef _shake_off(self)
    cpdef _close_transport(self)
    cpdef _abort(self, object exc)
    cdef _force_transport(self, object exc)
    cdef _fatal_error(self, object exc, str message)
