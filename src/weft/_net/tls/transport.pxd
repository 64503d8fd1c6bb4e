# Nothing to declare: `SSLTransport` has to be a Python class. The file is here so that it is compiled all the same,
# as its methods stand between every write and the state machine.
