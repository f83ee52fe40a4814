"""Downloads a file: python sample.py NAME [HOST [PORT]]. Needs nothing but Python."""

import json
import os
import socket
import sys


def reply(stream):
    word, _, fields = stream.readline().decode().partition(" ")
    if word == "ERR":
        sys.exit(json.loads(fields)["message"])
    if word not in ("OK", "END"):
        sys.exit("The connection broke: the file is not whole.")
    return json.loads(fields)


def download(name, host="localhost", port="9999"):
    target = os.path.basename(name)
    with socket.create_connection((host, int(port)), 90) as sock, sock.makefile("rwb") as stream:
        stream.write(b"GET %s\n" % json.dumps({"name": name}).encode())
        stream.flush()
        left = reply(stream)["length"]
        with open(target + ".part", "wb") as file:
            while left and (piece := stream.read1(min(left, 65536))):
                file.write(piece)
                left -= len(piece)
        reply(stream)  # END: only now it is whole
    os.replace(target + ".part", target)
    print(f"{target} is here")


if len(sys.argv) < 2:
    sys.exit(__doc__)
download(*sys.argv[1:])
