cdef object _add_awaited_by
cdef object _discard_awaited_by
cdef object _find_loop
cdef object _running_loop


cdef class AnyFuture:
    @staticmethod
    cdef ensure(object awaitable, object loop)
    @staticmethod
    cdef loop_of(object future)
    @staticmethod
    cdef bint keeps_awaiters() noexcept
    @staticmethod
    cdef note_awaiter(object future, object task)
    @staticmethod
    cdef drop_awaiter(object future, object task)
