from weft._core.ensure cimport AnyFuture

cdef bint _SHIELD_RETRIEVES
cdef bint _KEEPS_AWAITERS


cdef class Shield:
    cdef object _inner
    cdef object _outer
    cdef object _task


cdef _shield(object awaitable)
