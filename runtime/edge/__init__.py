"""What any gateway needs, whatever its guest: tokens, limits, sessions, deltas, and a WebSocket edge.

A client's way in: `accept` hands each connected stream to the guest's supervisor, which starts a process
that runs `connection`; the client's first frame names its session; a `ClientSession` process outlives the
connection, numbers what is pushed, and sends it again to a client that comes back.
"""
