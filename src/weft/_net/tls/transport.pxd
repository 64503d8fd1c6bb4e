# Nothing to declare: `SSLTransport` has to be a Python class. The file is here so that it is compiled all the same,
# as its methods stand between every write and the state machine, which they know by its type.
from weft._net.tls.connection cimport TLSConnection
