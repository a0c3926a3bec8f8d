"""A real trace processor for the tests, on machines without the official binary.

``fetch``   brings the engine's WebAssembly build into ``.cache/``.
``locate``  picks the engine to test with.
``module``  runs the WebAssembly build inside this process.
``wasm``    the official `perfetto.trace_processor.TraceProcessor` on top of it.
``query``   rows, data frames and the "nothing was lost in import" check.

``trace_processor_shell`` beside these is the same build behind the command line of the official
binary, run by Node.
"""
