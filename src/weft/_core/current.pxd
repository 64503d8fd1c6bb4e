cimport cython
from weft._native.drive cimport Drive
from weft._native.runningtask cimport RunningTask

cdef bint _IS_STATE_OF_THREAD
cdef bint _is_place_known
cdef object _swap
cdef dict _running


cdef class CurrentTask:
    @staticmethod
    cdef set(object loop, object task)
    @staticmethod
    cdef swap(object loop, object task)
