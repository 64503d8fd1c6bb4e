cimport cython

from weft._native.filling cimport Filling

cdef Py_ssize_t _RECORD_BYTES, _SLICE_BYTES, _HEADER_BYTES, _APPLICATION_DATA, _OVERHEAD_BYTES


@cython.final
cdef class RecordLayer:
    cdef bint _aligned
    cdef Py_ssize_t _at
    cdef bytes _data
    cdef bint _fills
    cdef readonly object _incoming
    cdef bint _leftover
    cdef readonly object _outgoing
    cdef Py_ssize_t _pending
    cdef object _put_in
    cdef object _raw
    cdef object _read
    cdef object _take_out
    cdef object _write
    cdef readonly bint ended
    cdef readonly object ssl_object

    cpdef release(self)
    cpdef feed(self, bytes data)
    cdef _put(self, object data)
    cdef _feed_all(self)
    @cython.locals(
        data=bytes, size=Py_ssize_t, at=Py_ssize_t, limit=Py_ssize_t, end=Py_ssize_t, length=Py_ssize_t, following=Py_ssize_t
    )
    cdef Py_ssize_t _whole_records(self) except -2
    @cython.locals(data=bytes, size=Py_ssize_t, count=Py_ssize_t, end=Py_ssize_t)
    cdef bint _feed_slice(self) except -1
    cdef Py_ssize_t _readable(self) except -1
    cdef _note_read(self, bint is_full)
    cdef bint _note_nothing(self) except -1
    @cython.locals(filling=Filling, data=bytes)
    cpdef bytes receive(self)
    @cython.locals(first=bytes, piece=bytes, pieces=list, wanted=Py_ssize_t, count=Py_ssize_t)
    cdef bytes _receive_pieces(self)
    @cython.locals(size=Py_ssize_t, offset=Py_ssize_t, wanted=Py_ssize_t, count=Py_ssize_t)
    cpdef Py_ssize_t receive_into(self, object target) except -1
    cpdef Py_ssize_t incoming_size(self) except -1
    cpdef Py_ssize_t send(self, object data) except -2
    cpdef Py_ssize_t outgoing_size(self) except -1
    cpdef bytes take(self)
    cpdef bint handshake(self) except -1
    cpdef bint shutdown(self) except -1
