"""gRPC through a proxy: grpc_client.py URL CA"""

import queue
import sys
import urllib.parse

import grpc

with open(sys.argv[2], "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
address = f"localhost:{urllib.parse.urlsplit(sys.argv[1]).port}"
options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 16 << 20)]
passed = 0
with grpc.secure_channel(address, credentials, options) as channel:
    unary = lambda name: channel.unary_unary(f"/test.Service/{name}")
    answer, call = unary("Echo").with_call(b"hello", metadata=(("x-mark", "1"),), timeout=30)
    assert answer == b"hello"
    assert ("x-mark-initial", "1") in call.initial_metadata(), call.initial_metadata()
    trailing = dict(call.trailing_metadata())
    assert trailing["x-mark-trailing"] == "1" and trailing["x-binary-bin"] == b"\x00\xff", trailing
    passed += 1
    assert len(unary("Echo")(b"x" * 3_500_000, timeout=60)) == 3_500_000
    passed += 1
    try:
        unary("Fail")(b"", timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "not now, später", error
        assert ("x-why", "because") in error.trailing_metadata()
        passed += 1
    try:
        unary("Missing")(b"", timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        passed += 1
    try:
        unary("Hang")(b"", timeout=0.5)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        passed += 1
    numbers = list(channel.unary_stream("/test.Service/Count")(b"1000", timeout=60))
    assert numbers == [str(number).encode() for number in range(1000)]
    passed += 1
    sent = (b"x" * 10_000 for _ in range(300))
    assert channel.stream_unary("/test.Service/Total")(sent, timeout=60) == b"3000000"
    passed += 1
    # Each message is answered before the next one is sent: nothing on the way may wait for more.
    outbox = queue.Queue()
    calls = channel.stream_stream("/test.Service/Talk")(iter(outbox.get, None), timeout=60)
    for number in range(50):
        outbox.put(str(number).encode())
        assert next(calls) == b"re: " + str(number).encode()
    outbox.put(None)
    assert list(calls) == [] and calls.code() == grpc.StatusCode.OK
    passed += 1
print(f"grpc: {passed} of 8")
