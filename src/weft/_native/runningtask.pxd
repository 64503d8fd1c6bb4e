cdef class RunningTask:
    @staticmethod
    cdef bint find(object set_loop, object swap_task, object loop, object task) except *
    @staticmethod
    cdef bint set(object loop, object task) except -1
