"""The official `perfetto.trace_processor.TraceProcessor` with the engine inside this process.

Starts in 0.1 s where the official one takes a second or two, and needs no binary for this platform.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from perfetto.trace_processor import api, backend

from tests.engine.locate import old_wasm_path, wasm_path
from tests.engine.module import REQUEST_BUFFER, EngineError, WasmModule

_CHUNK = REQUEST_BUFFER - 64
"""Trace bytes in one request, so that request and payload fit the engine's buffer uncopied."""


class WasmBackend(backend.TraceProcessorBackend):  # type: ignore[misc]  # untyped base class
    """Answers like `perfetto.trace_processor.http.TraceProcessorHttp`, without a server."""

    def __init__(
        self,
        protos: Any,
        sql_packages: Iterable[str | api.SqlPackage] = (),
        verbose: bool = False,
        wasm: Path | None = None,
    ) -> None:
        super().__init__(protos)
        self._module: WasmModule | None = WasmModule(wasm or wasm_path(), verbose)
        for package in sql_packages:
            self._register(package)

    def execute_query(self, query: str) -> Any:
        """Run one SQL text; a ``QueryResult`` whose ``error`` says what went wrong."""
        args = self.protos.QueryArgs(sql_query=query)
        return self._call("QUERY_STREAMING", "query_result", query_args=args)

    def compute_metric(self, metrics: Sequence[str]) -> Any:
        """Compute v1 metrics by name."""
        args = self.protos.ComputeMetricArgs(metric_names=metrics)
        return self._call("COMPUTE_METRIC", "metric_result", compute_metric_args=args)

    def trace_summary(
        self,
        specs: Sequence[str | bytes],
        metric_ids: Sequence[str] | None = None,
        metadata_query_id: str | None = None,
    ) -> Any:
        """Compute a trace summary from text (str) and binary (bytes) specifications."""
        binary = self.protos.TraceSummaryArgs.Format.BINARY_PROTOBUF
        args = self.protos.TraceSummaryArgs(output_format=binary)
        if metric_ids is None:
            args.computation_spec.run_all_metrics = True
        else:
            args.computation_spec.metric_ids.extend(metric_ids)
        for spec in specs or ():
            if isinstance(spec, str):
                args.textproto_specs.append(spec)
            else:
                args.proto_specs.add().ParseFromString(spec)
        if metadata_query_id is not None:
            args.computation_spec.metadata_query_id = metadata_query_id
        return self._call("SUMMARIZE_TRACE", "trace_summary_result", trace_summary_args=args)

    def enable_metatrace(self) -> None:
        """Start recording the engine itself."""
        self._call("ENABLE_METATRACE")

    def disable_and_read_metatrace(self) -> Any:
        """Stop recording the engine and return what was recorded."""
        return self._call("DISABLE_AND_READ_METATRACE", "metatrace")

    def export(self, output_file: Any, export_format: str) -> None:
        """Not in this version of the engine."""
        raise NotImplementedError("export() needs trace_processor_shell v58 or later")

    def parse(self, chunk: bytes) -> Any:
        """Append trace bytes; the last ``AppendTraceDataResult``, whose ``error`` may be set."""
        result = self.protos.AppendTraceDataResult()
        for offset in range(0, len(chunk), _CHUNK):
            part = bytes(chunk[offset : offset + _CHUNK])
            result = self._call("APPEND_TRACE_DATA", "append_result", append_trace_data=part)
            if result.error:
                break
        return result

    def notify_eof(self) -> None:
        """Tell the engine that the trace is complete."""
        result = self._call("FINALIZE_TRACE_DATA", "finalize_data_result")
        if result.error:
            raise api.TraceProcessorException(result.error)

    def close(self) -> None:
        """Free the engine; a second call does nothing."""
        module, self._module = getattr(self, "_module", None), None
        if module is not None:
            module.close()

    def _register(self, package: str | api.SqlPackage) -> None:
        """Load the SQL files of a directory (``dir``, ``dir@name`` or a `api.SqlPackage`)."""
        if isinstance(package, str):
            path, _, name = package.partition("@")
        else:
            path, name = package.path, package.package or ""
        root = Path(path).resolve()
        args = self.protos.TraceProcessorRpc().register_sql_package_args
        args.package_name = name or root.name
        args.allow_override = True
        for file in sorted(root.rglob("*.sql")):
            module = ".".join((args.package_name, *file.relative_to(root).with_suffix("").parts))
            args.modules.add(name=module, sql=file.read_text(encoding="utf-8"))
        result = self._call(
            "REGISTER_SQL_PACKAGE", "register_sql_package_result", register_sql_package_args=args
        )
        if result.error:
            raise api.TraceProcessorException(result.error)

    def _call(self, method: str, result_field: str | None = None, **args: Any) -> Any:
        """One request to the engine; the merged ``result_field`` of its replies."""
        if self._module is None:
            raise api.TraceProcessorException("this trace processor is closed")
        stream = self.protos.TraceProcessorRpcStream()
        request = stream.msg.add()
        request.request = getattr(self.protos.TraceProcessorRpc, f"TPM_{method}")
        for field, value in args.items():
            if isinstance(value, bytes):
                setattr(request, field, value)
            else:
                getattr(request, field).CopyFrom(value)
        replies = self.protos.TraceProcessorRpcStream()
        try:
            replies.ParseFromString(self._module.rpc(stream.SerializeToString()))
        except EngineError as error:
            raise api.TraceProcessorException(str(error)) from error
        result = None
        for reply in replies.msg:
            if reply.HasField("fatal_error") or reply.HasField("invalid_request"):
                message = reply.fatal_error or f"{method} is not supported by this engine"
                raise api.TraceProcessorException(message)
            if result_field and reply.HasField(result_field):
                if result is None:
                    result = getattr(reply, result_field)
                else:
                    result.MergeFrom(getattr(reply, result_field))
        return result


class TraceProcessor(api.TraceProcessor):  # type: ignore[misc]  # untyped base class
    """The official class with the engine in this process; ``config.bin_path`` is ignored."""

    def _create_backend(self, remote: str | None, addr: str | None) -> Any:
        if remote or addr:
            return super()._create_backend(remote, addr)
        packages = self.config.add_sql_packages or ()
        return WasmBackend(self.protos, packages, self.config.verbose, self._wasm())

    def _wasm(self) -> Path:
        return wasm_path()


class OldTraceProcessor(TraceProcessor):
    """The same with the engine of v52."""

    def _wasm(self) -> Path:
        return old_wasm_path()
