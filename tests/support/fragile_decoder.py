"""The decoder apart, with native faults put in: a file that holds `KILLER` kills it, one with `ENDLESS` never ends.

python fragile_decoder.py
"""

import os
import signal
import sys

from validation.corpus import decode_subprocess as decode_apart

COMMAND = (sys.executable, __file__)
KILLER, ENDLESS = b"this file kills its decoder", b"this file is never decoded"
decode_soundly = decode_apart.decode_audio


def decode_fragilely(payload, limit_s):
    """Die as a native decoder does: without a word to Python."""
    if KILLER in payload:
        os.kill(os.getpid(), signal.SIGSEGV)
    if ENDLESS in payload:
        signal.setitimer(signal.ITIMER_REAL, 0.01)  # instead of the two minutes that were set
        while True:
            pass
    return decode_soundly(payload, limit_s)


if __name__ == "__main__":
    decode_apart.decode_audio = decode_fragilely
    decode_apart.main()
