cimport cython
from weft._native.drive cimport Drive

cdef bint _IS_STATE_OF_THREAD
cdef object _swap
cdef dict _running


cdef class CurrentTask:
    @staticmethod
    cdef set(object loop, object task)
    @staticmethod
    cdef swap(object loop, object task)
