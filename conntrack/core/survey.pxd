# What a row may have that a detector has to see. See survey.pyx.
cpdef enum Trait:
    SLOW = 1 << 0           # its handshake took long or failed
    NEVER_OPEN = 1 << 1     # a handshake was begun, and nothing shows that anybody was past it
    UNANSWERED = 1 << 2     # of these: the other end sent nothing at all
    REFUSED = 1 << 3        # the SYN was answered by a RST
    QUEUE_FULL = 1 << 4     # the SYN+ACK was sent again after the client's ACK
    HALF_CLOSED = 1 << 5    # an end took the peer's FIN and sent none for long, or a new SYN came meanwhile
    LINGERED = 1 << 6       # an end whose FIN was acknowledged waited long for the peer's
    FIN_IGNORED = 1 << 7    # an end that closed second sent its FIN again and again, and nobody acknowledged it
    ABORTED = 1 << 8        # open, then ended by a RST, with no FIN from either end
    NO_WINDOW = 1 << 9      # a window of 0 was announced
    ONE_WAY = 1 << 10       # segments of one direction only, and not for want of an answer
    GAPS = 1 << 11          # acknowledged data is not in the capture
    COPIED = 1 << 12        # frames are in the capture twice
    UNSERVED = 1 << 13      # open to the end, and the client's data arrived, but the server never sent any
    REUSED = 1 << 14        # its 4-tuple was in TIME_WAIT before
    HEADLESS = 1 << 15      # open when its first segment came
