"""Enter a context, call a method by name, leave. The plain twin and the contract: `incontext.py`."""

cdef extern from "Python.h":
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
