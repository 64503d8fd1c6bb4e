"""Where CPython 3.14 and later keep the task that runs. The contract stands in the plain twin, `runningtask.py`."""

cdef extern from *:
    """
    /* The fields are looked for among so many words behind the part of the thread's state that CPython publishes.
       SAFETY: in 3.14 and 3.15 at least thirteen words follow, on every build. */
    #define WEFT_WORDS_AFTER_STATE 12

    static PyObject **weft_state_words(void) {
        return (PyObject **)((char *)PyThreadState_Get() + sizeof(PyThreadState));
    }

    /* The first word that holds `loop`, with `task` behind it; -1 if there is none. */
    static Py_ssize_t weft_find_running(PyObject *loop, PyObject *task) {
    #if PY_VERSION_HEX >= 0x030E0000
        PyObject **words = weft_state_words();
        for (Py_ssize_t place = 0; place + 1 < WEFT_WORDS_AFTER_STATE; place++)
            if (words[place] == loop && words[place + 1] == task) return place;
    #endif
        return -1;
    }

    static CYTHON_INLINE int weft_set_running(Py_ssize_t place, PyObject *loop, PyObject *task) {
    #if PY_VERSION_HEX >= 0x030E0000
        PyObject **running, *previous;
        if (place < 0) return 0;
        running = (PyObject **)((char *)PyThreadState_GetUnchecked() + sizeof(PyThreadState)) + place;
        if (running[0] != loop) return 0;
        /* The state owns what it names, and names nothing by NULL. */
        previous = running[1];
        running[1] = task == Py_None ? NULL : Py_NewRef(task);
        Py_XDECREF(previous);
        return 1;
    #else
        return 0;
    #endif
    }
    """
    Py_ssize_t weft_find_running(object loop, object task)
    int weft_set_running(Py_ssize_t place, object loop, object task)

cdef Py_ssize_t _place = -1


cdef class RunningTask:
    @staticmethod
    cdef bint find(object set_loop, object swap_task, object loop, object task) except *:
        global _place
        set_loop(loop)
        # What runs already, if this is imported by a task.
        previous = swap_task(loop, task)
        found = weft_find_running(loop, task)
        swap_task(loop, None)
        # Found once could be chance, so it must follow a change.
        if found >= 0 and weft_find_running(loop, task) != found:
            _place = found
            if not (weft_set_running(_place, loop, task) and swap_task(loop, None) is task):
                _place = -1
        swap_task(loop, previous)
        return _place >= 0

    @staticmethod
    cdef bint set(object loop, object task) except -1:
        return weft_set_running(_place, loop, task)
