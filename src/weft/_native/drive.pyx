"""Drive a coroutine one step, or call a callback, inside a context. The contract stands in the plain twin, `drive.py`."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object coro, object value, PyObject **result)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    object PyContext_CopyCurrent()
    object PyObject_Call(object callback, object args, object keywords_or_null)
    object PyObject_CallMethodOneArg(object target, object name, object argument)
    unsigned long PyThread_get_thread_ident()

cdef extern from *:
    """
    /* A one-argument call, the common case, without unpacking through the keyword path. */
    static CYTHON_INLINE PyObject *weft_call(PyObject *callback, PyObject *args) {
        Py_ssize_t count = PyTuple_GET_SIZE(args);
        if (count == 0) return PyObject_CallNoArgs(callback);
        return PyObject_Vectorcall(callback, ((PyTupleObject *)args)->ob_item, (size_t)count, NULL);
    }

    /* PyContext_Exit clobbers nothing, but it must not run with an exception set: keep that aside. */
    static CYTHON_INLINE int weft_leave(PyObject *context) {
        PyObject *type, *value, *traceback;
        int result;
        if (!PyErr_Occurred()) return PyContext_Exit(context);
        PyErr_Fetch(&type, &value, &traceback);
        result = PyContext_Exit(context);
        if (result < 0) { Py_XDECREF(type); Py_XDECREF(value); Py_XDECREF(traceback); return -1; }
        PyErr_Restore(type, value, traceback);
        return 0;
    }

    /* The exception that is set, which it takes away. */
    static PyObject *weft_take_error(void) {
    #if PY_VERSION_HEX >= 0x030C0000
        return PyErr_GetRaisedException();
    #else
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback != NULL) { PyException_SetTraceback(value, traceback); Py_DECREF(traceback); }
        Py_XDECREF(type);
        return value;
    #endif
    }

    #if PY_VERSION_HEX < 0x030D0000
    typedef _PyCFunctionFastWithKeywords PyCFunctionFastWithKeywords;
    #endif

    /* SAFETY: the flags say which C signature the function has; anything else goes the ordinary way. */
    static CYTHON_INLINE PyObject *weft_call_two(PyObject *function, PyObject *first, PyObject *second) {
        PyObject *args[2];
        args[0] = first;
        args[1] = second;
        if (PyCFunction_CheckExact(function) && PyCFunction_GET_FLAGS(function) == (METH_FASTCALL | METH_KEYWORDS)) {
            PyCFunctionFastWithKeywords direct =
                (PyCFunctionFastWithKeywords)(void (*)(void))PyCFunction_GET_FUNCTION(function);
            return direct(PyCFunction_GET_SELF(function), args, 2, NULL);
        }
        return PyObject_Vectorcall(function, args, 2, NULL);
    }

    /* One step. *ended tells a return from a yield; NULL with an exception set is an error of either kind. */
    static CYTHON_INLINE PyObject *weft_send(PyObject *context, PyObject *coro, int *ended) {
        PyObject *result = NULL;
        PySendResult status;
        if (context == Py_None) {
            status = PyIter_Send(coro, Py_None, &result);
        } else {
            if (PyContext_Enter(context) < 0) return NULL;
            status = PyIter_Send(coro, Py_None, &result);
            if ((result != NULL ? PyContext_Exit(context) : weft_leave(context)) < 0) { Py_CLEAR(result); return NULL; }
        }
        *ended = (status == PYGEN_RETURN);
        return result;
    }

    /* Cython makes the dict of a class with __dict__ in tp_new. Most futures never need one, and CPython can specialise
       method calls only on objects without. SAFETY: Cython's own getter makes the dict when it is NULL, and its traverse,
       clear and dealloc take NULL; a dict that holds something stays. */
    static CYTHON_INLINE void weft_make_lazy(PyObject *target) {
        Py_ssize_t offset = Py_TYPE(target)->tp_dictoffset;
        PyObject **place;
        if (offset <= 0) return;
        place = (PyObject **)((char *)target + offset);
        if (*place != NULL && PyDict_GET_SIZE(*place) == 0) Py_CLEAR(*place);
    }
    """
    object weft_call(object callback, object args)
    int weft_leave(object context) except -1
    PyObject *weft_send(object context, object coro, int *ended)
    object weft_take_error()
    object weft_call_two(object function, object first, object second)
    void weft_make_lazy(object target) noexcept


cdef class Returned:
    pass


cdef object returned(object value):
    cdef Returned result = Returned.__new__(Returned)
    result.value = value
    return result


cdef class Raised:
    pass


cdef object raised(object error):
    cdef Raised result = Raised.__new__(Raised)
    result.error = error
    return result


cdef class Drive:
    @staticmethod
    cdef object send(object context, object coro):
        cdef int ended = 0
        cdef PyObject *result = weft_send(context, coro, &ended)
        cdef object value
        if result == NULL:
            return raised(weft_take_error())
        # SAFETY: `result` is a new reference; the cast takes one more, and the first one is given up.
        value = <object>result
        Py_DECREF(value)
        return returned(value) if ended else value

    @staticmethod
    cdef object throw(object context, object coro, object exc):
        if context is not None:
            PyContext_Enter(context)
        try:
            return PyObject_CallMethodOneArg(coro, "throw", exc)
        except StopIteration as stop:
            return returned(stop.value)
        except BaseException as error:
            return raised(error)
        finally:
            if context is not None:
                weft_leave(context)

    @staticmethod
    cdef object call_two(object function, object first, object second):
        return weft_call_two(function, first, second)

    @staticmethod
    cdef object copy_context():
        return PyContext_CopyCurrent()

    @staticmethod
    cdef unsigned long long thread_id() noexcept:
        return PyThread_get_thread_ident()

    @staticmethod
    cdef void make_lazy(object target) noexcept:
        weft_make_lazy(target)

    @staticmethod
    cdef int call(object context, object callback, tuple args) except -1:
        PyContext_Enter(context)
        try:
            weft_call(callback, args)
        finally:
            weft_leave(context)
        return 0
