"""A gRPC server without TLS on a free port of the loopback, which it prints. It ends with its standard output's reader."""

import concurrent.futures
import time

import grpc


def echo(request, context):
    for key, value in context.invocation_metadata():
        if key == "x-mark":
            context.send_initial_metadata((("x-mark-initial", value),))
            context.set_trailing_metadata((("x-mark-trailing", value), ("x-binary-bin", b"\x00\xff")))
    return request


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now, später")


def hang(request, context):
    while context.is_active():
        time.sleep(0.01)


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def talk(requests, context):
    for request in requests:
        yield b"re: " + request


handlers = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Hang": grpc.unary_unary_rpc_method_handler(hang),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination(600)
