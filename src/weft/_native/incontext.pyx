"""Enter a context, call a method by name, leave. The plain twin and the contract: `incontext.py`."""

from cpython.ref cimport PyObject

cdef extern from "Python.h":
    object PyObject_VectorcallMethod(object name, PyObject **arguments, size_t count, PyObject *names)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    object PyObject_CallMethodNoArgs(object target, object name)
    object PyObject_CallMethodOneArg(object target, object name, object argument)


cdef class InContext:
    @staticmethod
    cdef object method0(object context, object target, str name):
        PyContext_Enter(context)
        try:
            return PyObject_CallMethodNoArgs(target, name)
        finally:
            # SAFETY: Cython keeps the exception in flight aside while this runs.
            PyContext_Exit(context)

    @staticmethod
    cdef object method1(object context, object target, str name, object argument):
        PyContext_Enter(context)
        try:
            return PyObject_CallMethodOneArg(target, name, argument)
        finally:
            PyContext_Exit(context)

    @staticmethod
    cdef object method2(object context, object target, str name, object first, object second):
        cdef PyObject *arguments[3]
        # SAFETY: borrowed, as a call's arguments are; our own parameters hold them meanwhile.
        arguments[0] = <PyObject *>target
        arguments[1] = <PyObject *>first
        arguments[2] = <PyObject *>second
        PyContext_Enter(context)
        try:
            return PyObject_VectorcallMethod(name, arguments, 3, NULL)
        finally:
            PyContext_Exit(context)
