cdef class Filling:
    cdef object _bytes
    cdef readonly object view
    cpdef bytes cut(self, Py_ssize_t count)
