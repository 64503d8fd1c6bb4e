# Nothing to declare: `StreamTransport` has to be a Python class. The file is here so that it is compiled all the same,
# as its methods stand between every write and the stream, which they know by its type.
from weft._net.stream cimport Stream
