"""What a synthetic call says: its own number, in tones that no other call says.

A number is six hex digits: five of the value and a check digit. Each digit sounds for 200 ms as two
tones at once, one for its place (0-5) and one for its value (0-15), and the six repeat for as long as
the call goes on. Every tone is a multiple of 50 Hz, so a 20 ms frame holds whole periods: frames repeat,
and 20 ms windows tell the tones apart exactly.
"""
import math

PLACE_HZ = [350 + 100 * place for place in range(6)]
DIGIT_HZ = [1050 + 150 * digit for digit in range(16)]
SYMBOL_MS = 200
FRAMES_PER_SYMBOL = SYMBOL_MS // 20
CODE_MS = SYMBOL_MS * len(PLACE_HZ)


def value_of(call, side):
    """The value that a side (0 caller, 1 callee) of a call says."""
    return 2 * call + side


def digits_of(value):
    """Six digits, most significant first, the check digit last."""
    digits = [value >> 4 * place & 15 for place in range(4, -1, -1)]
    return [*digits, sum((place + 1) * digit for place, digit in enumerate(digits)) % 16]


def frame(place, digit):
    """20 ms of one symbol at 8 kHz, 16 bit."""
    return [round(5500 * math.sin(2 * math.pi * PLACE_HZ[place] * n / 8000)
                  + 7500 * math.sin(2 * math.pi * DIGIT_HZ[digit] * n / 8000)) for n in range(160)]


def first_media_ns(call, side):
    """How long after the 200 OK a side's first RTP packet is captured."""
    return (14_000_000 if side == 0 else 2_000_000) + call * 37 % 5_000 * 1_000
