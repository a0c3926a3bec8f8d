"""The test engine where the UI looks for `trace_processor_shell --httpd`: port 9001.

The UI uses such an engine instead of its own, also for files that are opened later. Its requests
are caught in the browser and answered by the WebAssembly module in this process, so no port is
needed. An engine of another version than the UI's is taken without a question where the UI is the
older one.
"""

from __future__ import annotations

from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

from tests.engine.locate import wasm_path
from tests.engine.module import WasmModule

STATUS = "http://127.0.0.1:9001/status"
SOCKET = "ws://127.0.0.1:9001/websocket"


def connect(page) -> WasmModule:
    """Gives `page` an engine of its own; close it when the page is done."""
    module = WasmModule(wasm_path())
    protos = ProtoFactory(PlatformDelegate())
    status = _status(protos, module)
    headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "application/x-protobuf"}
    page.route(STATUS, lambda route: route.fulfill(body=status, headers=headers))

    def answer(socket):
        def requested(message):
            reply = module.rpc(message if isinstance(message, bytes) else message.encode())
            if reply:
                socket.send(reply)

        socket.on_message(requested)

    page.route_web_socket(SOCKET, answer)
    return module


def _status(protos, module) -> bytes:
    stream = protos.TraceProcessorRpcStream()
    stream.msg.add().request = protos.TraceProcessorRpc.TPM_GET_STATUS
    replies = protos.TraceProcessorRpcStream()
    replies.ParseFromString(module.rpc(stream.SerializeToString()))
    return replies.msg[0].status.SerializeToString()
