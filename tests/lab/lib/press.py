"""Sends one command to the baresip of this namespace by its control port (ctrl_tcp, a netstring of JSON)."""
import json
import socket
import sys

body = json.dumps({"command": sys.argv[1], "params": " ".join(sys.argv[2:]), "token": "lab"}).encode()
with socket.create_connection(("127.0.0.1", 4444), timeout=3) as phone:
    phone.sendall(b"%d:%s," % (len(body), body))
    answer = b""
    while b'"token":"lab"' not in answer:
        piece = phone.recv(4096)
        if not piece:
            sys.exit("press: the phone hung up on us")
        answer += piece
if b'"ok":true' not in answer:
    sys.exit(f"press: {answer.decode(errors='replace')}")
