"""The subprocess decoder with faults: a file that holds `KILLER` crashes it, a file with `ENDLESS` never ends.

python fragile_decoder.py
"""

import os
import signal
import sys

from validation.corpus import decode_subprocess

COMMAND = (sys.executable, __file__)
KILLER, ENDLESS = b"this file kills its decoder", b"this file is never decoded"
real_decode_audio = decode_subprocess.decode_audio


def decode_fragile(payload, limit_s):
    """Die as a native decoder does: without a Python exception."""
    if KILLER in payload:
        os.kill(os.getpid(), signal.SIGSEGV)
    if ENDLESS in payload:
        signal.setitimer(signal.ITIMER_REAL, 0.01)  # instead of the two minutes that were set
        while True:
            pass
    return real_decode_audio(payload, limit_s)


if __name__ == "__main__":
    decode_subprocess.decode_audio = decode_fragile
    decode_subprocess.main()
