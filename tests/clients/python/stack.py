"""What runs on this machine for the tests: PostgreSQL and walcast, tokens, waiting."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pg8000.native

CLIENTS = Path(__file__).resolve().parent.parent
PG_PORT = int(os.environ["PG_PORT"])
PORT = int(os.environ["PORT"])
JWT_SECRET = os.environ["JWT_SECRET"]
URL = f"http://127.0.0.1:{PORT}"


def sql(text, **values):
    """Runs one statement as superuser on a connection of its own."""
    connection = pg8000.native.Connection(
        "postgres", host="127.0.0.1", port=PG_PORT, password="postgres", database="postgres"
    )
    try:
        return connection.run(text, **values)
    finally:
        connection.close()


async def until(what, condition, seconds=20):
    """Waits until a condition holds; its last answer is returned."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        await asyncio.sleep(0.02)


def is_healthy():
    """Whether walcast says that the database and the stream are up."""
    try:
        with urllib.request.urlopen(f"{URL}/healthcheck", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


async def healthy():
    """Waits until walcast streams."""
    await until("walcast is healthy", is_healthy, 60)


async def control(service, action):
    """`stack.sh postgres|walcast start|stop|kill|restart`, while the client goes on."""
    process = await asyncio.create_subprocess_exec(CLIENTS / "stack.sh", service, action)
    code = await process.wait()
    if code != 0:
        raise AssertionError(f"stack.sh {service} {action} ended with code {code}")


def token(lifetime=3600, secret=JWT_SECRET, **claims):
    """A token signed with the tests' secret."""

    def encode(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    now = int(time.time())
    claims = {"iat": now, "exp": now + lifetime, **claims}
    head = encode(b'{"alg":"HS256","typ":"JWT"}') + "." + encode(json.dumps(claims).encode())
    return head + "." + encode(hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest())


def anon():
    """A token of somebody who has not signed in."""
    return token(role="anon")


def user():
    """The id and the token of a new user."""
    identity = str(uuid.uuid4())
    return identity, token(role="authenticated", sub=identity)
