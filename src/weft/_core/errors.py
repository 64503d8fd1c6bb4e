"""The only table of errnos: what an error number of a socket call means to a loop."""

from __future__ import annotations

import errno

#: Not now; try again when the descriptor is ready.
BLOCKING = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINPROGRESS, errno.EALREADY, errno.EINTR})

#: The other side, or the network, ended a connection: told to the protocol, never logged.
DISCONNECTED = frozenset(
    {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN, errno.ENOTCONN, errno.EBADF}
)

#: accept() can't for want of a resource: pause and try later, losing no connection.
ACCEPT_RETRY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
