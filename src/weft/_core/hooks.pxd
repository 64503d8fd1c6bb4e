cdef class Counters:
    cdef public long long turns
    cdef public long long callbacks
    cdef public long long tasks
    cdef public long long polls
    cdef public long long wakes
    cdef public long long recvs
    cdef public long long sends
    cdef public long long accepts
    cdef public long long touches
    cdef public long long longest_ns
    cdef public str longest_what
