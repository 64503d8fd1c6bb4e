"""Random schedules of what can happen to transports, each made from a seed, and the judges of how they ended.

    streams     connections over TCP, Unix sockets and TLS       pipes      both ends of pipes and of sockets used as such
    datagrams   endpoints over UDP and Unix sockets               ends       what they have in common: a protocol that watches

A schedule has a coroutine `run()`; afterwards `complaints` says which rules were broken, and `received` how much came.
`tests/faults/test_schedules.py` plays them.
"""
