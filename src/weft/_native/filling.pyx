"""Bytes that are filled in place and then cut to size. The contract stands in the plain twin, `filling.py`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from "Python.h":
    int PyBUF_WRITE
    object PyMemoryView_FromMemory(char *memory, Py_ssize_t size, int flags)
    int _PyBytes_Resize(PyObject **target, Py_ssize_t size) except -1


cdef class Filling:
    def __init__(self, Py_ssize_t size):
        # SAFETY: until `cut` nobody but this object knows the bytes, so they may be written.
        self._bytes = PyBytes_FromStringAndSize(NULL, size)
        self.view = PyMemoryView_FromMemory(PyBytes_AS_STRING(self._bytes), size, PyBUF_WRITE)

    cpdef bytes cut(self, Py_ssize_t count):
        cdef PyObject *target
        cdef object result
        if self._bytes is None or not 0 <= count <= len(<bytes>self._bytes):
            raise ValueError(f"{count} bytes were not filled")
        self.view = None
        # SAFETY: the one reference moves from the field to `target`: only an object that nobody shares can be cut, and it
        # may move. Where that fails, `target` is NULL and an exception is set.
        target = <PyObject *>self._bytes
        Py_INCREF(<object>target)
        self._bytes = None
        _PyBytes_Resize(&target, count)
        result = <object>target
        Py_DECREF(result)
        return result
