"""Encodes speech as G.729 (annex A) by libbcg729: 16-bit samples at 8 kHz on stdin, frames of 10 octets on stdout."""
import ctypes
import sys

bcg729 = ctypes.CDLL("libbcg729.so.0")
bcg729.initBcg729EncoderChannel.restype = ctypes.c_void_p
encoder = ctypes.c_void_p(bcg729.initBcg729EncoderChannel(0))  # without voice activity detection
while len(samples := sys.stdin.buffer.read(160)) == 160:
    frame, length = ctypes.create_string_buffer(10), ctypes.c_uint8()
    bcg729.bcg729Encoder(encoder, samples, frame, ctypes.byref(length))
    sys.stdout.buffer.write(frame.raw)
