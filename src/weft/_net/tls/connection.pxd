cimport cython

from weft._core.handle cimport Flushable
from weft._net.stream cimport Stream
from weft._net.tls.record cimport RecordLayer
from weft._net.tls.sending cimport Sender

cdef int _UNWRAPPED, _HANDSHAKE, _WRAPPED, _FLUSHING, _SHUTDOWN
cdef int _APP_INIT, _APP_MADE, _APP_EOF, _APP_LOST


# Final, so that it calls itself directly. Cython takes what a final class overrides from its base: not repeated here.
@cython.final
cdef class TLSConnection(Sender):
    cdef int _app
    cdef readonly bint _app_reading_paused
    cdef bint _buffered
    cdef public object _context
    cdef object _end_error
    cdef bint _eof
    cdef bint _forgotten
    cdef object _handshake_timeout_s
    cdef readonly bint _handshaken
    cdef readonly object _peercert
    cdef readonly object _read_high
    cdef readonly object _read_low
    cdef bint _rest_waits
    cdef object _shutdown_timeout_s
    cdef readonly object _sslcontext
    cdef object _timer
    cdef bint _transport_paused
    cdef object _waiter

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
