/* Included before each generated C file (setup.py).

   Reporting an error is rare, and Cython writes out how it is done at every call that may fail. Told that the function is
   cold, the compiler moves all of that out of the way: what is left of a function is shorter, up to half, and so is the
   code that a loop has to fetch anew after it slept. */

#include <Python.h>

#if defined(__GNUC__) || defined(__clang__)
static void __Pyx_AddTraceback(const char *funcname, int c_line, int py_line, const char *filename)
    __attribute__((cold));
#endif
