"""The compiled modules of Weft, all in this one shared object.

One, because a turn of the loop goes through most of them: their code then lies in fewer pages, which matters where the
loop sleeps between two events and its code has left the processor's caches (docs/design/tls.md has the figures).

`setup.py` writes `modules.h`: the name of each module, and the function that the C compiler knows it by. Each is a
module as it would be from a file of its own (PEP 489): `create` makes it and `execute` runs its body.
"""

cdef extern from "modules.h":
    ctypedef struct PyModuleDef:
        pass

    ctypedef struct CompiledModule:
        const char* name
        PyModuleDef* (*definition)() except NULL

    CompiledModule compiled_modules[]
    const int compiled_modules_count

    object PyModule_FromDefAndSpec(PyModuleDef* definition, object spec)
    int PyModule_ExecDef(object module, PyModuleDef* definition) except -1


cdef dict _numbers = {compiled_modules[number].name.decode(): number for number in range(compiled_modules_count)}

#: The full names of the modules.
names = frozenset(_numbers)


def create(spec):
    """A new module that has not run yet, for a spec of one of `names`."""
    cdef int number = _numbers[spec.name]
    return PyModule_FromDefAndSpec(compiled_modules[number].definition(), spec)


def execute(module):
    """Run the body of a module that `create` made."""
    cdef int number = _numbers[module.__name__]
    PyModule_ExecDef(module, compiled_modules[number].definition())
