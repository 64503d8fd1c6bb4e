cimport cython

from weft._net.outgoing cimport Outgoing
from weft._net.stream cimport Stream
from weft._net.tls.record cimport RecordLayer

cdef int _HANDSHAKE, _WRAPPED, _FLUSHING
cdef Py_ssize_t _FLUSH_BYTES, _RECORD_BYTES


cdef class Sender(Outgoing):
    cdef Py_ssize_t _conn_lost
    cdef public object _face
    cdef readonly object _protocol
    cdef bint _reading
    cdef readonly RecordLayer _records
    cdef int _state
    cdef Stream _stream
    cdef readonly object _transport
    cdef bint _transport_full
    cdef readonly object _write_high
    cdef readonly object _write_low
    cdef readonly bint _writing_paused

    cdef _fatal_error(self, object exc, str message)
    cpdef write(self, object data)
    cpdef writelines(self, object list_of_data)
    cdef _judge_buffer(self)
    cdef _count_dropped_write(self)
    cdef _flush(self)
    cdef _encrypt_guarded(self)
    @cython.locals(data=bytes, sent=Py_ssize_t)
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
