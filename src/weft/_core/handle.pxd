cimport cython
from weft._native.drive cimport Drive


cdef class Runnable:
    cdef object __weakref__
    cdef public bint _is_step
    cdef _run(self)


cdef class Flushable(Runnable):
    cdef public Flushable _following
    cdef public bint _is_dirty
    cdef _flush(self)


cdef class Listener(Runnable):
    cdef _on_done(self, object future)


cdef class Handle(Runnable):
    cdef public object _callback
    cdef public tuple _args
    cdef public object _loop
    cdef public object _context
    cdef public bint _cancelled
    cdef public object _repr
    cdef public object _source_traceback

    cdef _drop(self)
    cdef _report(self, object exc)
    cdef list _info(self)


cdef class ThreadSafeHandle(Handle):
    cdef object _lock
