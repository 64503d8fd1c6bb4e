cdef class InContext:
    @staticmethod
    cdef object method0(object context, object target, str name)
    @staticmethod
    cdef object method1(object context, object target, str name, object argument)
    @staticmethod
    cdef object method2(object context, object target, str name, object first, object second)
