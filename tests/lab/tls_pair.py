"""Two ends of a TLS connection that OpenSSL plays in memory, and what a tap sees of it.

    python3 tests/lab/tls_pair.py FOLDER VERSION SUITE [no-etm] [no-ems] [short]
    python3 tests/lab/tls_pair.py FOLDER 1.3 key-update

Writes FOLDER/wire (u8 side, u32 length, bytes: as sent; side 0 is the client), FOLDER/keys.log, FOLDER/said
(the same form, in the clear) and FOLDER/key.pem. What is said are ten requests and answers, some large; with `key-update`
(the openssl program's two ends, through a relay), lines between which both ends change their keys.
Standard library and the openssl program only.
"""
import os
import pathlib
import select
import socket
import ssl
import struct
import subprocess
import sys
import time

NO_ENCRYPT_THEN_MAC = 0x80000
NO_EXTENDED_MASTER_SECRET = 1


def certificate(folder, suite):
    key = folder / "key.pem"
    kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if "ECDSA" in suite or suite.startswith("TLS_CHACHA") else ["rsa:2048"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-subj", "/CN=sip.test", "-days", "2",
                    "-keyout", str(key), "-out", str(folder / "cert.pem")], check=True, capture_output=True)
    return key


def contexts(folder, version, suite, options):
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    if suite.startswith("DHE"):
        group = folder / "dh.pem"
        subprocess.run(["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out", str(group)],
                       check=True, capture_output=True)
        server.load_dh_params(group)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (client, server):
        exact = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        context.minimum_version = context.maximum_version = exact
        if version == "1.2":
            context.set_ciphers(suite + ":@SECLEVEL=0")
        if "no-etm" in options:
            context.options |= NO_ENCRYPT_THEN_MAC
        if "no-ems" in options:
            context.options |= NO_EXTENDED_MASTER_SECRET
    client.keylog_filename = str(folder / "keys.log")
    return client, server


def with_suite13(folder, suite):
    """Starts again under a configuration that allows one suite of TLS 1.3; Python cannot choose it."""
    path = folder / "openssl.cnf"
    if os.environ.get("OPENSSL_CONF") != str(path):
        path.write_text(f"openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nCiphersuites = {suite}\n")
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENSSL_CONF": str(path)})


def save(folder, wire, said):
    for name, parts in (("wire", wire), ("said", said)):
        data = b"".join(struct.pack("!BI", side, len(part)) + part for side, part in parts)
        (folder / name).write_bytes(data)


def key_update(folder):
    certificate(folder, "RSA")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(folder / "cert.pem"),
                               "-key", str(folder / "key.pem"), "-tls1_3"], **pipe)
    for _ in range(100):
        try:
            onwards = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            time.sleep(0.05)
    relay = socket.create_server(("127.0.0.1", 0))
    client = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % relay.getsockname()[1], "-tls1_3",
                               "-keylogfile", str(folder / "keys.log")], **pipe)
    back, _ = relay.accept()
    wire, said, script = [], [], []
    for number in range(4):
        for side in (0, 1):
            line = f"line {number} of {side}\n".encode()
            script.append((side, line, True))
            # `k`: new keys; `K`: new keys, and the other end's too.
            script.append((side, b"K\n" if number % 2 else b"k\n", False))
    quiet_since = time.monotonic()
    while True:
        ready, _, _ = select.select([back, onwards], [], [], 0.05)
        for taken in ready:
            side = 0 if taken is back else 1
            data = taken.recv(65536)
            wire.append((side, data))
            (onwards if side == 0 else back).sendall(data)
            quiet_since = time.monotonic()
        if time.monotonic() - quiet_since > 0.3:
            if not script:
                break
            side, line, counts = script.pop(0)
            end = (client, server)[side]
            end.stdin.write(line)
            end.stdin.flush()
            if counts:
                said.append((side, line))
            quiet_since = time.monotonic()
    for end in (client, server):
        end.kill()
        end.wait()
    save(folder, wire, said)


def main(folder, version, suite, *options):
    folder = pathlib.Path(folder)
    if suite == "key-update":
        return key_update(folder)
    if version == "1.3":
        with_suite13(folder, suite)
    certificate(folder, suite)
    client_context, server_context = contexts(folder, version, suite, options)
    sent, received = [ssl.MemoryBIO(), ssl.MemoryBIO()], [ssl.MemoryBIO(), ssl.MemoryBIO()]
    ends = [client_context.wrap_bio(received[0], sent[0], server_side=False),
            server_context.wrap_bio(received[1], sent[1], server_side=True)]
    said, wire = [], []

    def note(side):
        data = sent[side].read()
        if data:
            wire.append((side, data))
            received[1 - side].write(data)

    done = [False, False]
    while not all(done):
        for side, end in enumerate(ends):
            if not done[side]:
                try:
                    end.do_handshake()
                    done[side] = True
                except ssl.SSLWantReadError:
                    pass
                note(side)
    chosen = ends[0].cipher()[0]
    if chosen != suite:
        sys.exit(f"OpenSSL chose {chosen}")
    repeats = 0 if "short" in options else 170
    for number in range(2 if "short" in options else 10):
        for side, end in enumerate(ends):
            text = (f"message {number} of {'client server'.split()[side]} ".encode() * (1 + number * repeats))[:20000]
            end.write(text)
            said.append((side, text))
            note(side)
            got, other = b"", ends[1 - side]
            while len(got) < len(text):
                got += other.read(65536)
            assert got == text
    return save(folder, wire, said)


main(*sys.argv[1:])
