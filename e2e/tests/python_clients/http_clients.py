"""requests and httpx against a proxy in front of the tests' upstream: http_clients.py URL CA"""

import asyncio
import ssl
import sys

import httpx
import requests

URL, CA = sys.argv[1].rstrip("/"), sys.argv[2]
SIZE = 3_000_000


def pieces():
    for _ in range(30):
        yield b"x" * 100_000


def with_requests():
    passed = 0
    with requests.Session() as session:
        session.verify, session.trust_env = CA, False
        for _ in range(3):
            answer = session.get(f"{URL}/head", headers={"X-Mark": "1"}, timeout=30)
            assert answer.status_code == 200 and "x-mark" in answer.text.lower(), answer.text
            passed += 1
        # Of known length, then chunked.
        answer = session.post(f"{URL}/", data=b"y" * SIZE, timeout=60)
        assert answer.text == f"took {SIZE} bytes\n", answer.text
        passed += 1
        for _ in range(2):
            answer = session.post(f"{URL}/", data=pieces(), timeout=60)
            assert answer.text == f"took {SIZE} bytes\n", answer.text
        passed += 1
        with session.get(f"{URL}/bytes/{SIZE}", stream=True, timeout=60) as answer:
            assert sum(len(piece) for piece in answer.iter_content(65536)) == SIZE
        passed += 1
        answer = session.get(f"{URL}/with?query=1&query=2#fragment", timeout=30)
        assert answer.text.startswith("GET /with?query=1&query=2 HTTP/1.1\r\n"), answer.text
        passed += 1
    print(f"requests: {passed} of 7")


async def with_httpx():
    passed = 0
    async with httpx.AsyncClient(http2=True, verify=CA, trust_env=False, timeout=60) as client:
        answers = await asyncio.gather(*(client.get(f"{URL}/{n}") for n in range(100)))
        for n, answer in enumerate(answers):
            assert answer.http_version == "HTTP/2" and answer.text.startswith(f"GET /{n} "), answer.text
        passed += 1
        assert (await client.post(f"{URL}/", content=b"z" * SIZE)).text == f"took {SIZE} bytes\n"
        passed += 1

        async def slowly():
            for piece in pieces():
                yield piece
                await asyncio.sleep(0)

        assert (await client.post(f"{URL}/", content=slowly())).text == f"took {SIZE} bytes\n"
        passed += 1
        async with client.stream("GET", f"{URL}/bytes/{SIZE}") as answer:
            length = 0
            async for piece in answer.aiter_bytes():
                length += len(piece)
            assert length == SIZE
        passed += 1
        # Refused by the proxy, and the connection lives on.
        answer = await client.get(f"{URL}/", headers={"Host": "other.example"})
        assert answer.status_code == 421, answer.status_code
        passed += 1
    # Another CA's certificate is no good.
    async with httpx.AsyncClient(http2=True, trust_env=False, timeout=60) as client:
        try:
            await client.get(f"{URL}/")
        except (httpx.ConnectError, ssl.SSLError):
            passed += 1
    print(f"httpx: {passed} of 6")


with_requests()
asyncio.run(with_httpx())
