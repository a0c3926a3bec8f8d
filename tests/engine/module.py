"""Perfetto's ``trace_processor.wasm`` as a function from request bytes to reply bytes.

No Emscripten glue is used. The module imports about forty functions; those that an in-memory
database needs are methods of `WasmModule`, the rest (file access) answer "bad file descriptor".
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wasmtime

REQUEST_BUFFER = 8 << 20
"""Size in bytes of the buffer that the module reads requests from."""

_PAGE = 65536
_WASI_EBADF = 8
_SYSCALL_EBADF = -8
_REPOSITORY = Path(__file__).resolve().parents[2]


class EngineError(RuntimeError):
    """The module trapped or aborted; this instance is unusable from here on."""


def cache_directory() -> Path:
    """Where the compiled module is kept: ``$XDG_CACHE_HOME``, ``~/.cache`` or our ``.cache``."""
    for base in (os.environ.get("XDG_CACHE_HOME"), "~/.cache", str(_REPOSITORY / ".cache")):
        if not base:
            continue
        directory = Path(os.path.expanduser(base)) / "nsys2perfetto"  # noqa: PTH111 (no HOME: no error)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(directory, os.W_OK):
            return directory
    raise EngineError("no writable cache directory: set XDG_CACHE_HOME")


def compiled(wasm: Path) -> tuple[wasmtime.Engine, wasmtime.Module]:
    """Compile ``wasm``, once per (file, wasmtime version); 4 to 20 s, then mapped in 10 ms.

    A file lock makes concurrent test workers wait for the first one instead of compiling too.
    """
    config = wasmtime.Config()
    config.wasm_memory64 = True
    config.max_wasm_stack = 2 << 20
    engine = wasmtime.Engine(config)
    code = wasm.read_bytes()
    version = f"{importlib.metadata.version('wasmtime')} {sys.platform}"
    key = hashlib.sha256(code + version.encode()).hexdigest()[:16]
    cached = cache_directory() / f"{key}.cwasm"
    module = _mapped(engine, cached)
    if module is None:
        with cached.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            module = _mapped(engine, cached)
            if module is None:
                module = wasmtime.Module(engine, code)
                unfinished = cached.with_suffix(f".{os.getpid()}")
                unfinished.write_bytes(module.serialize())
                unfinished.replace(cached)
    return engine, module


def _mapped(engine: wasmtime.Engine, cached: Path) -> wasmtime.Module | None:
    if not cached.exists():
        return None
    try:
        return wasmtime.Module.deserialize_file(engine, str(cached))
    except wasmtime.WasmtimeError:
        return None  # made on another CPU, or damaged: compile again


class WasmModule:
    """One instance of the trace processor; `rpc` is its whole interface.

    Close it: wasmtime keeps every callback, hence the instance and its memory (28 MB and up),
    alive until the store is closed.
    """

    def __init__(self, wasm: Path, verbose: bool = False) -> None:
        engine, module = compiled(wasm)
        self._verbose = verbose
        self._replies: list[bytes] = []
        self._log: list[str] = []
        self._store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        host = self._host_functions()
        for item in module.imports:
            kind, name = item.type, item.name or ""
            if not isinstance(kind, wasmtime.FuncType):
                raise EngineError(f"the module imports {name!r}, which is not a function")
            function = host.get(name) or _no_such_file(item.module, bool(kind.results))
            linker.define(
                self._store, item.module, name, wasmtime.Func(self._store, kind, function)
            )
        exports: Any = linker.instantiate(self._store, module).exports(self._store)
        self._memory: wasmtime.Memory = exports["memory"]
        self._is_64 = self._memory.type(self._store).is_64
        self._max_pages = 1 << 18 if self._is_64 else 65535
        exports["emscripten_stack_init"](self._store)
        exports["__wasm_call_ctors"](self._store)
        self._on_request: Any = exports["trace_processor_on_rpc_request"]

        pointer = wasmtime.ValType.i64() if self._is_64 else wasmtime.ValType.i32()
        reply_type = wasmtime.FuncType([pointer, wasmtime.ValType.i32()], [])
        reply = wasmtime.Func(self._store, reply_type, self._reply)
        slot = exports["__indirect_function_table"].grow(self._store, 1, reply)
        init = exports["trace_processor_rpc_init"]
        self._buffer = self._unsigned(init(self._store, slot, REQUEST_BUFFER))

    def rpc(self, request: bytes) -> bytes:
        """Run serialized ``TraceProcessorRpcStream`` requests; the replies in the same form.

        Raises:
            EngineError: the engine trapped or aborted, with the end of its log.
        """
        self._replies = []
        for offset in range(0, len(request), REQUEST_BUFFER):
            part = request[offset : offset + REQUEST_BUFFER]
            self._write(self._buffer, part)
            try:
                self._on_request(self._store, len(part))
            except Exception as error:
                log = "".join(self._log[-20:])
                raise EngineError(f"trace processor failed: {error}\n{log}") from error
        return b"".join(self._replies)

    def close(self) -> None:
        """Free the instance's memory."""
        self._store.close()

    # ---- memory

    def _unsigned(self, pointer: int) -> int:
        return pointer if self._is_64 else pointer & 0xFFFFFFFF

    def _address(self, pointer: int) -> int:
        base = ctypes.addressof(self._memory.data_ptr(self._store).contents)
        return base + self._unsigned(pointer)

    def _read(self, pointer: int, size: int) -> bytes:
        return ctypes.string_at(self._address(pointer), size)

    def _write(self, pointer: int, data: bytes) -> None:
        ctypes.memmove(self._address(pointer), data, len(data))

    def _write_word(self, pointer: int, value: int) -> None:
        self._write(pointer, value.to_bytes(8 if self._is_64 else 4, "little"))

    def _text(self, pointer: int) -> str:
        return ctypes.string_at(self._address(pointer)).decode(errors="replace")

    # ---- what the module imports

    def _host_functions(self) -> dict[str, Callable[..., Any]]:
        return {
            "emscripten_get_now": lambda: time.perf_counter() * 1e3,
            "emscripten_date_now": lambda: time.time() * 1e3,
            "clock_time_get": self._clock_time_get,
            "emscripten_get_heap_max": self._heap_max,
            "emscripten_resize_heap": self._resize_heap,
            "fd_write": self._fd_write,
            "emscripten_err": lambda message: self._say(self._text(message) + "\n"),
            "environ_sizes_get": self._environ_sizes_get,
            "environ_get": lambda _values, _buffer: 0,
            "__assert_fail": self._assert_fail,
            "_abort_js": self._abort,
            "_tzset_js": lambda *_: None,
            "_gmtime_js": self._broken_down_time,
            "_localtime_js": self._broken_down_time,  # UTC
        }

    def _reply(self, pointer: int, size: int) -> None:
        if size:
            self._replies.append(self._read(pointer, size & 0xFFFFFFFF))

    def _clock_time_get(self, clock: int, _precision: int, out: int) -> int:
        now = time.time_ns() if clock == 0 else time.monotonic_ns()
        self._write(out, now.to_bytes(8, "little"))
        return 0

    def _heap_max(self) -> int:
        size = self._max_pages * _PAGE
        return size if self._is_64 else size - (1 << 32)  # as a signed 32-bit number

    def _resize_heap(self, wanted_bytes: int) -> int:
        wanted = -(-self._unsigned(wanted_bytes) // _PAGE)
        current = self._memory.size(self._store)
        if wanted > self._max_pages:
            return 0
        for factor in (1.2, 1.05, 1.0):
            pages = min(self._max_pages, max(wanted, int(current * factor)))
            try:
                self._memory.grow(self._store, pages - current)
            except wasmtime.WasmtimeError:
                continue
            return 1
        return 0

    def _fd_write(self, _fd: int, vectors: int, count: int, written: int) -> int:
        word = 8 if self._is_64 else 4
        raw = self._read(vectors, self._unsigned(count) * 2 * word)
        words = [int.from_bytes(raw[i : i + word], "little") for i in range(0, len(raw), word)]
        pairs = zip(words[::2], words[1::2], strict=True)
        text = b"".join(self._read(pointer, size) for pointer, size in pairs)
        self._write_word(written, len(text))
        self._say(text.decode(errors="replace"))
        return 0

    def _say(self, text: str) -> None:
        self._log.append(text)
        if self._verbose:
            sys.stderr.write(text)

    def _environ_sizes_get(self, count: int, size: int) -> int:
        self._write_word(count, 0)
        self._write_word(size, 0)
        return 0

    def _assert_fail(self, condition: int, file: int, line: int, _function: int) -> None:
        raise EngineError(f"assertion {self._text(condition)} at {self._text(file)}:{line}")

    def _abort(self) -> None:
        raise EngineError("abort()")

    def _broken_down_time(self, seconds: int, out: int) -> None:
        t = time.gmtime(seconds)
        fields = [t.tm_sec, t.tm_min, t.tm_hour, t.tm_mday, t.tm_mon - 1, t.tm_year - 1900]
        fields += [(t.tm_wday + 1) % 7, t.tm_yday - 1]  # `struct tm` counts from Sunday and from 0
        self._write(out, b"".join(value.to_bytes(4, "little", signed=True) for value in fields))


def _no_such_file(module: str, has_result: bool) -> Callable[..., int | None]:
    """A stub for the file functions: ``-EBADF`` from a syscall, ``EBADF`` from WASI."""
    result = (_SYSCALL_EBADF if module == "env" else _WASI_EBADF) if has_result else None
    return lambda *_: result
